#!/usr/bin/env python3
"""Writes tests/data/templates/language.json: small templates with what Jinja2 makes of them, set up as transformers does.

usage: make_template_cases.py > tests/data/templates/language.json     (needs Jinja2 3.1; Debian: python3-jinja2)

An entry with "text" must render to exactly that, one with "error" must fail with exactly that type and message. Where only
the type is promised (CPython's wording differs between versions, or ours is clearer), "error" holds the type alone.

The file is long because it is one flat list: every case is a line, and nothing in it depends on another line.
"""
import datetime
import json

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


NOW = datetime.datetime(2026, 11, 20, 12, 0, 0)
ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = NOW.strftime

VARS = {
    "s": "Hello, World", "u": "Grüße 你好 🙂", "e": "", "ws": " \t pad \n", "n": 7, "neg": -7, "f": 2.5, "t": True, "nil": None,
    "xs": [3, 1, 2], "names": ["bob", "Alice", "carol", "alice"], "empty": [], "nested": [[1, [2, 3]], [4]],
    "d": {"b": 1, "a": [1, 2], "c": {"k": "v"}, "items": "shadow"}, "big": 2**63 + 5,
    "msgs": [{"role": "system", "content": "S"}, {"role": "user", "content": "U1"},
             {"role": "assistant", "content": "A1", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
             {"role": "user", "content": "U2"}],
    "people": [{"name": "Ann", "age": 30, "city": {"name": "Oslo"}}, {"name": "bob", "age": 25, "city": {"name": "Rome"}},
               {"name": "Cy", "age": 30, "city": {"name": "oslo"}}, {"name": "Dee", "age": None}],
    "html": "<b class=\"x\">it's & more</b>", "text": "one two  three\nfour\r\nfive\n\nsix", "mixed": [1, "a", None, True, 2.5, [], {}],
}

# Expressions, one a line; each is rendered as {{ ... }}.
EXPRESSIONS = r"""
1 + 2 * 3
(1 + 2) * 3
7 / 2
6 / 2
7 // 2
-7 // 2
7 // -2
-7 % 3
7 % -3
7.5 % 2
-7.5 // 2
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
2 ** 3 ** 2
1e3
1.5e-7
1e16
123456789012345680.0
1e22
0.1 + 0.2
1/3
100.0
-0.0
5e-324
1_000 + 0x1F + 0b101 + 0o17
9223372036854775807
true + true
true and false
n and s
e or nil or 'x'
not e
not not xs
nil
none
True
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2 == 2
1 == 1.0
1 == true
'a' < 'b'
'a' == 1
[1, 2] < [1, 3]
(1, 2) == (1, 2)
[1, 2] == (1, 2)
{'a': 1} == {'a': 1.0}
nil == none
1 != 2
'ell' in s
'x' not in s
1 in xs
'a' in d
'zz' in d
1 in (1, 2)
5 in range(10)
5 in range(0, 10, 2)
s ~ 1 ~ nil ~ 2.5 ~ true
'a' 'b' "c"
'abc' * 3
3 * 'ab'
[1] * 3
[1] + [2, 3]
(1,) + (2,)
'a' if n > 3 else 'b'
'a' if n < 3
('a' if n < 3) is defined
xs[0]
xs[-1]
xs[10]
xs[10] is defined
s[0]
s[-1]
u[0:5]
u[-1]
u[6]
s[::-1]
u[::-1]
s[1:8:2]
s[-5:]
s[:-7]
s[100:]
xs[::-1]
xs[1:]
xs[:2]
xs[-2:]
xs[5:1:-1]
xs[::2]
xs[-100:100]
(1, 2, 3)[1:]
range(10)[2:5]
range(10)[::-1]
range(10)[3]
range(5)
range(1, 10, 3) | list
range(5, 0, -2) | list
range(0) | list
d['a']
d.a
d['a'][1]
d.c.k
d['c'].k
d.missing
d['missing']
d.missing is defined
d.items is callable
d['items']
d.get('b')
d.get('zz')
d.get('zz', 'dflt')
d.keys() | list
d.values() | list
d.items() | list
d.keys()
d.values()
d.items()
d | length
d
[1, 'a', none, true, 2.0, [1], {'k': "it's"}, (1,), ()]
{'a': 1, 2: 'b', none: 3, (1, 2): 4}
"it's"
["it's", 'say "hi"', 'both \' and "']
['new\nline', 'tab\t', 'back\\slash', 'nul\x00', 'é', '🙂', '\x7f', '\u200b', '\xa0']
'\x41\u00e9\U0001F642\101\q\n|'
mixed
nested
undefinedthing
undefinedthing | default('x')
undefinedthing | d
e | default('x')
e | default('x', true)
nil | default('x')
nil | default('x', boolean=true)
undefinedthing is defined
undefinedthing == otherthing
undefinedthing ~ 'a'
[undefinedthing]
undefinedthing | list
undefinedthing | length
'a' in undefinedthing
undefinedthing is none
undefinedthing or 'fallback'
undefinedthing is iterable
undefinedthing | string | length
big
big is number
big is integer
big | tojson
n is number
n is integer
f is float
f is integer
t is number
t is integer
t is boolean
t is true
t is sameas true
n is sameas n
nil is none
s is string
s is iterable
s is sequence
xs is sequence
xs is iterable
d is mapping
d is iterable
d is sequence
range(3) is sequence
d.keys() is sequence
n is iterable
n is callable
range is callable
3 is odd
4 is even
-3 is odd
9 is divisibleby 3
9 is divisibleby(4)
n is eq 7
n is equalto(7)
n is ne 8
n is gt 6
n is ge 7
n is lt 8
n is le 7
n is greaterthan 3
n is lessthan 3
n is in [1, 7]
'a' is in 'abc'
n is not none
n is not in [1, 7]
s is lower
'abc' is lower
'ABC' is upper
'Ab1' is upper
'1' is lower
'x' is filter
'upper' is filter
'odd' is test
html | e is escaped
n is not string and n is number
s.upper()
s.lower()
u.upper()
'ß'.upper()
'ΑΣ ΑΣΑ'.lower()
'hello wORLD it\'s'.title()
'hello wORLD it\'s' | title
'(foo) [bar] {baz} <qux> a-b c_d' | title
'hELLO'.capitalize()
'hELLO' | capitalize
'aBc'.swapcase()
ws.strip()
ws.lstrip() | tojson
ws.rstrip() | tojson
'xxhixx'.strip('x')
'xyhiyx'.lstrip('xy')
'xyhiyx'.rstrip('xy')
ws | trim
'xxhixx' | trim('x')
'\u00a0\u3000x\u2003'.strip()
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.rsplit(',', 1)
'a,b,,c'.rsplit(',')
'  a  b c '.split()
'  a  b c '.split(none, 1)
'  a  b c '.rsplit(none, 1)
'abc'.split('')
''.split()
''.split(',')
'aXXbXXc'.split('XX', maxsplit=1)
text.splitlines()
text.splitlines(true)
'a\vb\fc\x1cd\u2028e'.splitlines()
s.startswith('Hell')
s.startswith(('x', 'H'))
s.startswith('llo', 2)
s.endswith('World')
s.endswith(('x', 'd'))
s.endswith('lo', 0, 5)
s.replace('l', 'L')
s.replace('l', 'L', 2)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
s.find('o')
s.find('o', 5)
s.find('zz')
u.find('你')
u.rfind('e')
s.rfind('o')
s.index('W')
s.rindex('l')
s.count('l')
s.count('')
'aaaa'.count('aa')
'-'.join(['a', 'b'])
''.join([])
'-'.join('abc')
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'abc'.rpartition('-')
'prefix-x'.removeprefix('prefix-')
'x.py'.removesuffix('.py')
'42'.isdigit()
'4²'.isdigit()
'4.2'.isdigit()
''.isdigit()
'٣'.isdecimal()
'½'.isnumeric()
'abc'.isalpha()
'ab1'.isalpha()
'ab1'.isalnum()
' \t'.isspace()
'Abc'.isupper()
'ABC1'.isupper()
'abc1'.islower()
'Hello World'.istitle()
'Hello world'.istitle()
'a_1'.isidentifier()
'1a'.isidentifier()
'abc'.isascii()
'é'.isascii()
'a\n'.isprintable()
'42'.zfill(5)
'-42'.zfill(5)
'ab'.ljust(5) ~ '|'
'ab'.rjust(5, '*')
'ab'.center(5, '*')
'abc'.center(6, '*')
'ab'.center(7) ~ '|'
'ab' | center(8) ~ '|'
'a\tb'.expandtabs(4)
'%s is %d years and %.2f' % ('Ann', 30, 1.5)
'%s' % 'x'
'%s' % [1, 2]
'%r' % 'x'
'%5d|%-5d|%05d|%+d' % (42, 42, 42, 42)
'%x %X %o %#x' % (255, 255, 8, 255)
'%e %g %G' % (12345.678, 0.00001, 1e20)
'%10.3f|%-10.3s|' % (3.14159, 'abcdef')
'%c%c' % (65, 'b')
'%%'  % ()
'%(a)s-%(b)05.1f' % {'a': 1, 'b': 2.25}
'%*d' % (5, 42)
'%d' % 3.99
'%s %s' | format('a', 'b')
'%(x)s' | format(x=3)
'{} {}'.format(1, 'a')
'{1} {0}'.format(1, 'a')
'{x} {y!r}'.format(x=1, y='a')
'{:>8}|{:<8}|{:^8}|{:*^8}'.format('a', 'b', 'c', 'd')
'{:05d} {:+} {:,} {:x} {:#b} {:_}'.format(42, 5, 1234567, 255, 5, 1234567)
'{:.2f} {:10.3e} {:g} {:%} {:.1%}'.format(3.14159, 12345.6, 0.0001, 0.25, 0.123)
'{:.3} {:.3}'.format(3.14159, 'abcdef')
'{0[a]} {0[c][k]} {1[0]}'.format(d, xs)
'{{}} {}'.format(1)
'{:{}}|'.format('a', 5)
'{:>{w}.{p}f}'.format(3.14159, w=8, p=2)
'{a}'.format_map({'a': 1})
'{:08.3f} {:-8d}|'.format(-3.14159, 42)
'{:c}'.format(65)
'{}'.format(none) ~ '{!s}'.format(true)
xs | sort
xs | sort(reverse=true)
names | sort
names | sort(case_sensitive=true)
people | sort(attribute='age') | map(attribute='name') | list
people[:3] | sort(attribute='age,name') | map(attribute='name') | list
people[:3] | sort(attribute='age', reverse=true) | map(attribute='name') | list
people[:3] | map(attribute='city.name') | list
people | map(attribute='zip', default='-') | list
people | map(attribute='zip') | list
names | map('upper') | list
names | map('replace', 'a', 'A') | list
names | map('length') | list
['1', 'x', '3'] | map('int', default=-1) | list
msgs | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(', ')
msgs | selectattr('role', '==', 'user') | list | length
msgs | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | list
msgs | selectattr('tool_calls') | list | length
msgs | selectattr('tool_calls', 'defined') | map(attribute='role') | list
msgs | rejectattr('tool_calls') | list | length
mixed | select | list
mixed | reject | list
mixed | select('string') | list
mixed | reject('none') | list
[1, 2, 3, 4] | select('gt', 2) | list
[1, 2, 3, 4] | reject('odd') | list
[1, 2, 3, 4] | select('divisibleby', 2) | list
(msgs | selectattr('role', 'equalto', 'nobody')) and 'always true'
xs | first
xs | last
s | first
s | last
empty | first
empty | first is defined
d | first
d | last
xs | length
s | length
u | length
u | count
xs | join
xs | join('-')
names | join(', ')
people | join('/', attribute='name')
xs | min
xs | max
names | min
names | max
names | max(case_sensitive=true)
people[:3] | min(attribute='age')
empty | max
xs | sum
[1.5, 2] | sum
people[:3] | sum(attribute='age')
xs | sum(start=10)
[[1], [2]] | sum(start=[])
xs | list
'abc' | list
d | list
{'a': 1} | string
n | string ~ '!'
'42' | int
' 42 ' | int
'x' | int
'x' | int(-1)
'4.7' | int
4.7 | int
-4.7 | int
'0x1F' | int(base=16)
'1_000' | int
'ff' | int(0, 16)
'101' | int(0, 2)
nil | int
true | int
'3.5' | float
'1e3' | float
'x' | float
'x' | float(1.5)
'inf' | float
'nan' | float
3 | float
-5 | abs
-5.5 | abs
2.5 | round
3.5 | round
2.675 | round(2)
1.005 | round(2)
42 | round
42.55 | round(1, 'ceil')
42.55 | round(1, 'floor')
1234.5 | round(-2)
2.1 | round(0, 'ceil')
html | e
html | escape
html | safe
html | forceescape
(html | e) ~ '<'
(html | e) + '<'
'<' + ('x' | safe)
'a b/c?d=é&' | urlencode
{'a b': 'c d', 'e': '/'} | urlencode
[('k', 'v w')] | urlencode
d | tojson
mixed | tojson
u | tojson
u | tojson(ensure_ascii=true)
'quote" \\ \n \x01 \x7f </script>' | tojson
{'b': 1, 'a': [1, 2, {'c': []}]} | tojson(indent=2)
{'b': 1, 'a': [1, 2]} | tojson(sort_keys=true)
{'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':'))
{'b': 1, 'a': [1, 2]} | tojson(indent=4, separators=(',', ': '))
{'a': {}, 'b': []} | tojson(indent='\t')
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
[1.0, 1e100, 0.1, 1e-7] | tojson
('inf' | float) | tojson
(1, 2) | tojson
'x' | tojson
nil | tojson
true | tojson
d | dictsort
{'b': 2, 'A': 3, 'c': 1} | dictsort
{'b': 2, 'A': 3, 'c': 1} | dictsort(true)
{'b': 2, 'A': 3, 'c': 1} | dictsort(by='value')
{'b': 2, 'A': 3, 'c': 1} | dictsort(reverse=true)
d | items | list
undefinedthing | items | list
names | unique | list
names | unique(true) | list
people[:3] | unique(attribute='age') | map(attribute='name') | list
xs | reverse | list
s | reverse
[1, 2, 3, 4, 5] | batch(2) | list
[1, 2, 3, 4, 5] | batch(2, 0) | list
[1, 2, 3, 4, 5] | slice(2) | list
[1, 2, 3, 4, 5] | slice(3, 'x') | list
people[:3] | groupby('age') | list
people[:3] | groupby('city.name') | map(attribute='grouper') | list
(people[:3] | groupby('age') | first).list | length
people | groupby('zip', default='none') | map('first') | list
text | wordcount
'one two' | wordcount
text | wordwrap(6)
'a very long sentence that has to be wrapped' | wordwrap(10)
'well-known state-of-the-art re-use x-ray -- and so--on' | wordwrap(9)
'well-known state-of-the-art re-use' | wordwrap(9, break_on_hyphens=false)
'Donaudampfschifffahrt at sea' | wordwrap(8)
'Donaudampfschifffahrt at sea' | wordwrap(8, false)
'Donau-dampf--schiff a-b-c-d 1-2-3 ab-c12' | wordwrap(4)
'  leading and   inner   ' | wordwrap(9)
'a\n\nb c' | wordwrap(3, wrapstring='|')
u | wordwrap(4)
'Grüße-Gott-heute' | wordwrap(7)
'x' | wordwrap(0)
'' | wordwrap(5)
html | striptags
'<p>a <!-- x <b> --> b</p>\n\t<i>c</i>&amp;&lt;&#65;&#x42;&quot;' | striptags
'1 < 2 and 3' | striptags
'a<b<c>d>e' | striptags
'R&D & more' | striptags
{'class': 'a "b"', 'id': 7, 'no': none, 'x': nothing} | xmlattr
{'a': '<&>'} | xmlattr(false)
{} | xmlattr
{'a b': 1} | xmlattr
'a\nb\n\nc' | indent
'a\nb\n\nc' | indent(2)
'a\nb\n\nc' | indent(2, true)
'a\nb\n\nc' | indent(2, true, true)
'a\nb' | indent('> ')
'Hello World again' | truncate(9)
'Hello World again' | truncate(9, true)
'Hello World again' | truncate(9, true, '…', 0)
'Hello World again' | truncate(13)
s | replace('l', 'L')
s | replace('l', 'L', 1)
42 | replace(4, 'x')
s | upper | lower | title
1000000 | filesizeformat
1024 | filesizeformat(true)
1 | filesizeformat
500 | filesizeformat
d | attr('items') is callable
d | attr('b') is defined
xs.index(1)
xs.count(1)
(1, 2, 2).count(2)
xs.copy()
d.copy() == d
[1, 2] | map('string') | join
dict(a=1, b=2)
dict({'x': 1}, y=2)
dict([('k', 'v')])
namespace(a=1).a
namespace(a=1)
namespace({'k': 2}).k
strftime_now('%Y-%m-%d %H:%M:%S')
strftime_now('%d %b %Y')
strftime_now('%A, %B %-d, %j %p %I %y %% %U %w %e')
strftime_now('')
2.5.is_integer()
f.is_integer()
xs.0
(xs | sort).0
d.c['k'].upper()
[[1, 2], [3]] | map('first') | list
nested | map('length') | list
'a' ~ 1 + 2
1 ~ 2 * 3
-n ~ ''
+n
- -n
not n == 7
n if n else 0 if e else 1
[1, 2,]
{'a': 1,}
(1, )
()
[]
{}
'%s' % none
'%d%%' % 50
'a' < 'B'
u | upper
[true, false, none] | tojson
[3, 1.5, true] | sort
[(1, 'b'), (1, 'a')] | sort
x.y is defined if x is defined else 'nox'
msgs[0].content[0]
msgs | map(attribute='role') | unique | list
(msgs | last).content
msgs[-1]['content']
msgs[1:] | length
msgs | map(attribute='content') | map('lower') | join(' ')
"a" "b" ~ 'c'
0 == -0.0
1e400 | default('inf') > 5
'abc' is string
'abc'|length is eq 3
(1 if true) ~ (2 if false)
'a.b.c'.split('.')[-1]
'x=1;y=2'.split(';') | map('first') | list
[1, 2] is sequence and [1, 2] is not mapping
none is none and undefinedthing is not defined
"\t" | tojson
'\'' ~ "\""
10 // 3 ~ ':' ~ 10 % 3
1 in [true]
[] == []
{} == {}
[] is none
('a', 'b') | join
('a', 'b')
d.a | map('string') | join('+')
s | string == s
'ab' in ['ab', 'c']
'A' ~ ('b' | upper) ~ 'c'.upper()
"%.3g|%8.2e|%-8s|%08.3f" % (1234.5, 1234.5, 'ab', -1.5)
'{:,.2f}'.format(1234567.891)
'{:>+8.1f}'.format(2.25)
'{0!r:>6}'.format('a')
s.nope is defined
n.nope is defined
nil.nope is defined
xs.nope is defined
"""

# Whole templates.
TEMPLATES = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc",
    "a  {%- if true -%}  b  {%- endif -%}  c",
    "a  {%+ if true %}\n b {%+ endif +%}\nc",
    "  {{ 1 }}\n  {{ 2 }}",
    "x {{- 1 -}} y",
    "x\n\n{{- 1 -}}\n\ny",
    "{# comment #}\nx{#- c -#}  y\n  {# indented #}\nz",
    "a {# {{ not }} {% parsed %} #} b",
    "{% raw %}{{ x }} {% if %}{% endraw %}!",
    "a\n  {%- raw -%}  {{ x }}  {%- endraw -%}  b",
    "  {% raw %}\n x\n  {% endraw %}\ny",
    "a{% if 1 %}\n\nb{% endif %}",
    "trailing newline\n",
    "two trailing newlines\n\n",
    "crlf\r\nline\rold mac",
    "{{ '{{' }} {{ '}}' }} {{ \"%}\" }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{{ {'a': {'b': 1}} }}",
    "{ {{ 1 }} } {x} {%- set y = 2 %} {y}",
    "{% set x = 1 %}{{ x }}",
    "{% set x = 1, 2 %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, (b, c) = 1, (2, 3) %}{{ a }}{{ b }}{{ c }}",
    "{% set (a, b) = 'xy' %}{{ a }}{{ b }}",
    "{% set x %}block {{ n }}{% endset %}[{{ x }}]",
    "{% set x | upper %}block {{ s }}{% endset %}[{{ x }}]",
    "{% set x | replace('b', 'c') | upper %}bbb{% endset %}[{{ x }}]",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = [ns.a] %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}",
    "{% set ns = namespace(a=1) %}{% set ns.b, x = 2, 3 %}{{ ns.b }}{{ x }}",
    "{% set ns = namespace(a=1) %}{% set ns.a %}blk{% endset %}{{ ns.a }}",
    "{% for x in xs %}{{ x }}{% endfor %}",
    "{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for x in xs %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}",
    "{% for x in xs %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for x in xs %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}",
    "{% for x in empty %}x{% else %}none{% endfor %}",
    "{% for x in xs %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in undefinedthing %}x{% else %}none{% endfor %}",
    "{% for x in xs if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}",
    "{% for x in xs if x > 10 %}{{ x }}{% else %}nothing{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }};{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for i in range(3) %}{% for j in range(2) %}{{ i }}{{ j }}{{ loop.index }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in nested recursive %}[{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}@{{ loop.depth }}{{ loop.depth0 }}{% endif %}]{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(5) %}{% if j > i %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% for x in xs %}{% with y = x * 2 %}{% if y == 2 %}{% continue %}{% endif %}{{ y }}{% endwith %}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "{% for x in xs | sort | reverse %}{{ x }}{{ loop.last }}{% endfor %}",
    "{% for m in msgs %}{% if loop.first and m.role == 'system' %}<{{ m.content }}>{% elif m['role'] == 'user' %}U{% else %}O{% endif %}{% endfor %}",
    "{% set x = 'outer' %}{% for x in xs %}{{ x }}{% endfor %}{{ x }}",
    "{% for x in xs %}{% set y = x %}{% endfor %}{{ y is defined }}",
    "{% if n > 10 %}a{% elif n > 5 %}b{% else %}c{% endif %}",
    "{% if not e %}empty{% endif %}{% if empty %}no{% else %}also{% endif %}",
    "{% if undefinedthing %}a{% else %}b{% endif %}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c='y') }} {{ m(c=1, a=2) }}",
    "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}{{ m(none) }}{{ m('x') | upper }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a) %}{{ a }}{{ varargs | join(',') }}{{ kwargs | tojson }}{% endmacro %}{{ m(1, 2, 3, z=1) }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body {{ n }}{% endcall %}",
    "{% macro m(xs) %}{% for x in xs %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(a, i) m(xs) %}[{{ i }}:{{ a }}]{% endcall %}",
    "{% macro m() %}{% if caller %}has{% else %}no{% endif %}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}",
    "{% macro fact(k) %}{% if k <= 1 %}1{% else %}{{ k * (fact(k - 1) | int) }}{% endif %}{% endmacro %}{{ fact(6) }}",
    "{% macro m(a, b=1) %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}",
    "{% macro outer() %}{% macro inner(y) %}({{ y }}){% endmacro %}{{ inner(1) }}{{ inner(2) }}{% endmacro %}{{ outer() }}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% macro m() -%}\n  x\n{%- endmacro %}[{{ m() }}]",
    "{% macro m(*) %}{% endmacro %}",
    "{% set args = [1, 2] %}{% macro m(a, b, c=0) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*args) }}{{ m(*args, **{'c': 9}) }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}banana{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% block main %}in block {{ n }}{% endblock %}",
    "{% block main %}x{% endblock main %}",
    "{% generation %}gen {{ n }}{% endgeneration %}!",
    "{% print 1, 2 %}",
    "{% set j = joiner('; ') %}{% for x in xs %}{{ j() }}{{ x }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{% set _ = c.reset() %}{{ c.current }}",
    "{% for g in people[:3] | groupby('age') %}{{ g.grouper }}:{% for p in g.list %}{{ p.name }} {% endfor %}{% endfor %}",
    "{% for age, group in people[:3] | groupby('age') %}{{ age }}={{ group | length }};{% endfor %}",
    "{% set g = xs | map('string') %}{{ g | join }}|{{ g | join }}",
    "{% set it = xs | select('gt', 1) %}{{ it | first }}{{ it | first }}",
    "{% for row in [1,2,3,4,5] | batch(2, '-') %}{{ row | join(',') }};{% endfor %}",
    "{{ '%s' % 1 }}{{ '%s, %s' % ('a', 'b') }}",
    "{%- for m in msgs -%}\n  {{ m.role }}\n{%- endfor -%}",
    "{%- for m in msgs %}\n    {{- m.role }}\n    {%- if not loop.last %}, {% endif %}\n{%- endfor %}\n",
    "{% for x in xs -%}\n {{ x }} \n{%- endfor %}",
    "{%if n%}tight{%endif%}",
    "{{n}}{{ n}}{{n }}",
    "{% set _ = none %}x",
    "{{ 1 if true else raise_exception('no') }}",
    "{% set x = 'a\nb' %}{{ x }}",
    "{{ \"multi\nline\" | tojson }}",
    "line one\n{%- set x = 1 %}\nline two {{ x }}\n\n\n",
    "{% if true %}  \n  x\n{% endif %}  \ny",
    "\t{% if true %}\ttab{% endif %}\n\t{# c #}\tz",
    "é{% if true %}ü{% endif %}\u3000{%- if true %}x{% endif %}",
    "{% set d2 = dict(d, z=1) %}{{ d2.z }}{{ d.z is defined }}",
    "{{ [x for x in xs] }}",
    "{{ xs | map('abs') | sum }}",
    "{{ loop is defined }}",
    "{% for x in xs %}{{ loop }}{% break %}{% endfor %}",
    "{{ d.items() | map('first') | list }}{{ d.items() | map('last') | map('string') | join(';') }}",
    "{% set a = [1, 2] %}{% set b = a + [3] %}{{ a }}{{ b }}",
    "{% for a in xs %}{% for b in xs if b != a %}{{ a }}{{ b }} {% endfor %}{% endfor %}",
    "{{ ('a' ~ 'b') * 2 }}{{ 'x' ~ [1] ~ {'a': none} }}",
    "{% if 'role' in msgs[0] and msgs[0]['role'] == 'system' %}{% set sys = msgs[0]['content'] %}{% set rest = msgs[1:] %}{% else %}{% set rest = msgs %}{% endif %}{{ sys }}{{ rest | length }}",
    # errors
    "{{ undefinedthing.x }}",
    "{{ undefinedthing['x'] }}",
    "{{ undefinedthing() }}",
    "{{ undefinedthing + 1 }}",
    "{{ 1 + undefinedthing }}",
    "{{ 'a' + undefinedthing }}",
    "{{ undefinedthing < 1 }}",
    "{{ -undefinedthing }}",
    "{{ undefinedthing | int }}",
    "{{ d.missing.more }}",
    "{{ d['missing'].more }}",
    "{{ xs[10].more }}",
    "{{ xs.foo.bar }}",
    "{{ s.foo() }}",
    "{{ n.foo.bar }}",
    "{{ nil.foo.bar }}",
    "{{ (d.missing)() }}",
    "{{ empty | first + 1 }}",
    "{{ (empty | first).x }}",
    "{{ (empty | max).x }}",
    "{% macro m(a) %}{{ a.b }}{% endmacro %}{{ m() }}",
    "{% for x in xs %}{{ loop.previtem.x }}{% endfor %}",
    "{{ ('x' if false).y }}",
    "{{ raise_exception('custom: ' ~ n) }}",
    "{{ 1 + 'a' }}",
    "{{ 'a' + 1 }}",
    "{{ [1] + 1 }}",
    "{{ [1] + (1,) }}",
    "{{ nil + 1 }}",
    "{{ {} + {} }}",
    "{{ 'a' - 'b' }}",
    "{{ 'a' * 'b' }}",
    "{{ 1 < 'a' }}",
    "{{ 'a' >= 1 }}",
    "{{ none < 1 }}",
    "{{ [1, 'a'] | sort }}",
    "{{ 1 / 0 }}",
    "{{ 1.0 / 0 }}",
    "{{ 1 in 5 }}",
    "{{ 1 in 'abc' }}",
    "{{ -'a' }}",
    "{{ n() }}",
    "{{ 'x'() }}",
    "{{ {[]: 1} }}",
    "{% for x in 5 %}{% endfor %}",
    "{% for x in none %}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% set a, b = [1] %}",
    "{% set x = 1 %}{% set x.y = 2 %}",
    "{{ xs.append(4) }}",
    "{{ d.update({}) }}",
    "{{ d.pop('a') }}",
    "{{ xs.__class__ }}",
    "{{ xs.__class__.__mro__ }}",
    "{{ ''.__class__.__subclasses__() }}",
    "{{ (xs | attr('__class__')).x }}",
    "{{ d['__class__']['x'] }}",
    "{{ '{0.__class__.x}'.format(s) }}",
    "{{ range(100001) }}",
    "{{ undefinedthing | tojson }}",
    "{{ range(3) | tojson }}",
    "{{ {(1, 2): 3} | tojson }}",
    "{{ xs | select('nosuch') | list }}",
    "{{ s | items | list }}",
    "{{ n | length }}",
    "{{ none | length }}",
    "{{ (xs | map('string')) | length }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(b=1) }}",
    "{% macro m(a) %}{% endmacro %}{% call m(1) %}x{% endcall %}",
    "{{ loop(1) }}",
    "{% for x in xs %}{{ loop(x) }}{% endfor %}",
    "{{ s.index('zz') }}",
    "{{ '%d' % 'x' }}",
    "{{ '%s %s' % 'x' }}",
    "{{ '%s' % ('a', 'b') }}",
    "{{ '{}'.format() }}",
    "{{ s.split(1) }}",
    "{{ ','.join([1]) }}",
    "{{ xs['a'].b }}",
    "{{ strftime_now(1) }}",
    "{{ {'a': 1} | dictsort(by='x') }}",
    # syntax errors
    "{{ 1 + }}",
    "{{ (1 }}",
    "{{ 1 ) }}",
    "{{ [1, 2 }}",
    "{{ 'abc }}",
    "{% if %}x{% endif %}",
    "{% if true %}x",
    "{% for x in xs %}x{% endif %}",
    "{% nosuchtag %}",
    "{% endif %}",
    "{{ x | nosuchfilter }}",
    "{{ x is nosuchtest }}",
    "{% set 1 = 2 %}",
    "{% set true = 2 %}",
    "{# unclosed",
    "{% raw %}unclosed",
    "{{ a b }}",
    "{{ a. }}",
    "{{ ?x }}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% call 1 %}{% endcall %}",
    "{{ f(a=1, 2) }}",
    "{{ 1 is odd is even }}",
    "{{ }}",
    "{% break %}",
    "{% for x in xs %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
]

# CPython words these differently from version to version, or smelt says more: only the type is compared.
TYPE_ONLY = ("TemplateSyntaxError", "TemplateAssertionError", "ZeroDivisionError", "KeyError", "SyntaxError", "AttributeError")
LOOSE = {
    "{{ s.split(1) }}", "{{ ','.join([1]) }}", "{{ strftime_now(1) }}", "{{ 'a' * 'b' }}", "{{ xs | select('nosuch') | list }}",
    "{{ range(3) | tojson }}", "{{ '%d' % 'x' }}",
}


def render(source):
    try:
        return {"text": ENV.from_string(source).render(**json.loads(json.dumps(VARS)))}
    except Exception as e:  # noqa: BLE001: whatever it is, it is the expected result
        name = type(e).__name__
        return {"error": name if name in TYPE_ONLY or source in LOOSE else f"{name}: {e}"}


sources = ["{{ " + line + " }}" for line in EXPRESSIONS.strip("\n").split("\n")] + TEMPLATES
cases = [{"template": source, **render(source)} for source in sources]
print(json.dumps({"variables": VARS, "cases": cases}, ensure_ascii=False, indent=1))
