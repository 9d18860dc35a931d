// /chat, /dashboard and /docs in Chromium, against the bundled models. usage: node pages.mjs ADDRESS ADDRESS_THAT_NEEDS_A_KEY
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import test, { after, before } from 'node:test';

import { launch } from './browser.mjs';

const [address, locked] = process.argv.slice(2);
const scene = process.env.SCENE;  // a picture with 3 red circles
const question = 'What is 12 + 30?', answer = '12 + 30 = 42';
const patience = 60_000;  // ms; a busy machine is slow
let browser;

before(async () => (browser = await launch()));
after(() => browser.close());

// Runs `work` on a page of its own; whatever the page asks for elsewhere, throws or logs as an error fails the test.
async function onPage(path, work, { base = address, expectErrors = false, ...options } = {}) {
    const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'], ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(patience);
    const problems = [];
    page.on('request', (r) => new URL(r.url()).origin === base || problems.push(`asked for ${r.url()}`));
    page.on('pageerror', (e) => problems.push(String(e)));
    page.on('console', (m) => m.type() === 'error' && !expectErrors && problems.push(m.text()));
    try {
        await page.goto(base + path);
        await work(page, context);
        assert.deepEqual(problems, []);
    } finally {
        await context.close();
    }
}

// The sizes that a test runs at; on the small one conversations are behind a button.
const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const sizes = [['desktop', {}], ['phone', phone]];
async function showSide(page) {
    const button = page.getByRole('button', { name: 'Conversations', exact: true });
    if (await button.isVisible() && (await button.getAttribute('aria-expanded')) !== 'true') await button.click();
}

const lastAnswer = (page) => page.locator('article.assistant').last();
const isDone = (page) => page.locator('#send:not([hidden])').waitFor();

async function ask(page, text) {
    await page.getByLabel('Message', { exact: true }).fill(text);
    await page.keyboard.press('Enter');
    await isDone(page);
}

// A picture of the next message: a path, or a file as Playwright takes it.
function showFile(page, file) {
    return page.getByLabel('Files', { exact: true }).setInputFiles(file);
}

// Pastes or drops a file where the person writes.
function give(page, how, path) {
    return page.getByLabel('Message', { exact: true }).evaluate((field, [type, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], 'a.png', { type: 'image/png' }));
        const event = type === 'paste'
            ? new ClipboardEvent(type, { clipboardData: data, bubbles: true, cancelable: true })
            : new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
        field.dispatchEvent(event);
    }, [how, [...readFileSync(path)]]);
}

async function sampling(page, values) {
    await page.getByRole('button', { name: 'Sampling' }).click();
    for (const [label, value] of Object.entries(values)) {
        const field = page.locator('#panel').getByLabel(label);
        if (label === 'Thinking') await field.selectOption(value);
        else await field.fill(value);
    }
    await page.getByRole('button', { name: 'Sampling' }).click();
}

// Answers with `text` in the place of the server.
async function answerWith(page, text) {
    await page.route('**/v1/chat/completions', (route) => {
        const pieces = text.match(/[^]{1,1000}/g) ?? [];
        const events = pieces.map((content) => ({ choices: [{ delta: { content } }] }));
        events.push({ choices: [{ delta: {}, finish_reason: 'stop' }] });
        route.fulfill({
            contentType: 'text/event-stream',
            body: [...events.map((e) => JSON.stringify(e)), '[DONE]'].map((e) => `data: ${e}\n\n`).join(''),
        });
    });
}

// What the page makes of Markdown.
function html(page, source) {
    return page.evaluate(async (text) => {
        const { renderMarkdown } = await import('/web/markdown.js');
        const target = document.createElement('div');
        renderMarkdown(target, text);
        return target.innerHTML;
    }, source);
}

test('chat: an answer is streamed, its thinking folded, its speed shown; it is there after a reload', () =>
    onPage('/chat', async (page) => {
        await sampling(page, { Temperature: '0' });
        await ask(page, question);
        const message = lastAnswer(page);
        assert.equal(await message.locator('.text').innerText(), answer);
        assert.match(await message.locator('.facts').innerText(), /^\d+ tokens, [\d.]+ tok\/s, first token after/);
        const thinking = message.locator('details');
        assert.equal(await thinking.getAttribute('open'), null);
        assert.equal(await thinking.locator('div').isVisible(), false);
        await thinking.locator('summary').click();
        assert.equal((await thinking.locator('div').innerText()).trim(), '12 + 30 equals 42.');
        await page.reload();
        assert.equal(await page.locator('article').count(), 0);
        await page.getByRole('button', { name: question, exact: true }).click();
        assert.equal(await lastAnswer(page).locator('.text').innerText(), answer);
        assert.equal(await page.locator('#panel').getByLabel('Temperature').inputValue(), '0');
    }));

test('chat: what the panel says is what is asked for', () =>
    onPage('/chat', async (page) => {
        await page.getByLabel('Model', { exact: true }).selectOption('small');
        await sampling(page, {
            'System message': 'You are terse.', Thinking: 'off', Temperature: '0.7', 'Top p': '0.9', 'Top k': '20', 'Min p': '0.05',
            'Repetition penalty': '1.1', 'Tokens at most': '7', Seed: '5',
        });
        const sent = page.waitForRequest('**/v1/chat/completions');
        await ask(page, question);
        assert.deepEqual((await sent).postDataJSON(), {
            model: 'small', temperature: 0.7, top_p: 0.9, top_k: 20, min_p: 0.05, repetition_penalty: 1.1,
            max_completion_tokens: 7, seed: 5, chat_template_kwargs: { enable_thinking: false }, stream: true,
            messages: [{ role: 'system', content: 'You are terse.' }, { role: 'user', content: question }],
        });
        assert.equal(await lastAnswer(page).locator('details').isVisible(), false);
    }));

test('chat: stop keeps what is there, and ends the sequence on the server', () =>
    onPage('/chat', async (page) => {
        await page.route('**/v1/chat/completions', (route) => route.continue({
            postData: JSON.stringify({ ...route.request().postDataJSON(), ignore_eos: true, max_completion_tokens: 900 }),
        }));
        await page.getByLabel('Message', { exact: true }).fill(question);
        await page.getByRole('button', { name: 'Send' }).click();
        await lastAnswer(page).locator('.facts', { hasText: 'tok/s' }).waitFor();
        await page.keyboard.press('Escape');
        await isDone(page);
        assert.match(await lastAnswer(page).locator('.facts').innerText(), /stopped by you$/);
        for (let i = 0; ; ++i) {
            const { models } = await (await fetch(`${address}/performance`)).json();
            if (models.every((m) => m.requests.under_way === 0)) break;
            assert.ok(i < 600, 'the sequence is still running');
            await new Promise((done) => setTimeout(done, 100));
        }
    }));

test('chat: regenerate and edit ask again from there', () =>
    onPage('/chat', async (page) => {
        await sampling(page, { Temperature: '0', Thinking: 'off' });
        await ask(page, question);
        await ask(page, 'What is ripgrep?');
        assert.equal(await page.locator('article').count(), 4);
        await page.locator('article.assistant').first().getByRole('button', { name: 'Regenerate' }).click();
        await isDone(page);
        assert.equal(await page.locator('article').count(), 2);
        assert.equal(await lastAnswer(page).locator('.text').innerText(), answer);
        await page.locator('article.user').getByRole('button', { name: 'Edit' }).click();
        await page.getByLabel('Message text').fill('What is 11 + 30?');
        await page.locator('article.user').getByRole('button', { name: 'Send' }).click();
        await page.locator('article.assistant .text', { hasText: '41' }).waitFor();
        await isDone(page);
        assert.equal(await page.locator('article.user .text').innerText(), 'What is 11 + 30?');
        await lastAnswer(page).getByRole('button', { name: 'Edit' }).click();
        await page.getByLabel('Message text').fill('It is **41**.');
        await lastAnswer(page).getByRole('button', { name: 'Save' }).click();
        assert.equal(await lastAnswer(page).locator('strong').innerText(), '41');
        await lastAnswer(page).getByRole('button', { name: 'Copy' }).click();
        assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'It is **41**.');
        const sent = page.waitForRequest('**/v1/chat/completions');
        await ask(page, 'Sure?');
        assert.equal((await sent).postDataJSON().messages[1].content, 'It is **41**.');
    }));

test('chat: what the server refuses is said, and what is lost as well', () =>
    onPage('/chat', async (page) => {
        await ask(page, 'word '.repeat(3000));
        assert.match(await lastAnswer(page).locator('.error').innerText(), /context/);
        await page.route('**/v1/chat/completions', (route) => route.abort());
        await ask(page, question);
        assert.equal(await lastAnswer(page).locator('.error').innerText(), 'the server cannot be reached');
        await page.unroute('**/v1/chat/completions');
        await page.route('**/v1/chat/completions', (route) => route.fulfill({
            contentType: 'text/event-stream', body: 'data: {"choices":[{"delta":{"content":"half"}}]}\n\n',
        }));
        await ask(page, question);
        assert.equal(await lastAnswer(page).locator('.text').innerText(), 'half');
        assert.equal(await lastAnswer(page).locator('.error').innerText(), 'the connection was lost');
    }, { expectErrors: true }));

test('chat: nothing that a model writes runs, loads or leads astray', () =>
    onPage('/chat', async (page) => {
        const evil = [
            '<script>window.hit = 1</script>', '<img src=x onerror="window.hit = 1">', '<svg onload="window.hit = 1">',
            '<iframe srcdoc="<script>parent.hit = 1</script>"></iframe>', '[a](javascript:window.hit=1)',
            '[b](JaVaScRiPt:window.hit=1)', '[c](java\nscript:window.hit=1)', '[d](data:text/html,<script>1</script>)',
            '[e](vbscript:x)', '[f](file:///etc/passwd)', '[g](//evil.example/x)', '[h](https://good.example/x "t")',
            '![i](https://evil.example/pixel.png)', '<https://good.example/y>', '[j](https://good.example/"onclick="window.hit=1)',
            '| <b>k</b> | l |\n|---|---|\n| <img src=x onerror=window.hit=1> | m |', '```"><script>window.hit=1</script>\ncode\n```',
            '<style>*{display:none}</style>', '<a href="javascript:window.hit=1">n</a>', '&lt;script&gt;window.hit=1&lt;/script&gt;',
            '<form action=https://evil.example><button>o</button></form>', '<meta http-equiv=refresh content="0;url=https://evil.example">',
        ].join('\n\n');
        await answerWith(page, evil);
        await ask(page, '<img src=x onerror="window.hit = 1">');
        const found = await page.evaluate(() => ({
            hit: window.hit,
            tags: [...new Set([...document.querySelectorAll('article *')].map((n) => n.tagName))].sort(),
            links: [...document.querySelectorAll('article .text a')].map((a) => [a.getAttribute('href'), a.rel, a.target]),
            handlers: [...document.querySelectorAll('article *')].filter((n) => [...n.attributes].some((a) => /^on|style|src/.test(a.name))).length,
        }));
        assert.equal(found.hit, undefined);
        assert.equal(found.handlers, 0);
        for (const tag of ['SCRIPT', 'IMG', 'IFRAME', 'STYLE', 'META', 'SVG', 'svg', 'B']) assert.ok(!found.tags.includes(tag), tag);
        for (const [href, rel, target] of found.links) {
            assert.match(href, /^https:\/\/(good|evil)\.example\//);
            assert.deepEqual([rel, target], ['noopener noreferrer', '_blank']);
        }
        assert.deepEqual(found.links.map(([href]) => href), [
            'https://good.example/x', 'https://evil.example/pixel.png', 'https://good.example/y', 'https://good.example/%22onclick=%22window.hit=1',
            'https://evil.example/', 'https://evil.example/',  // addresses in the text of tags
        ]);
        // Kept and shown again, it is as harmless.
        await page.reload();
        await page.locator('#chats .open').click();
        assert.equal(await page.evaluate(() => window.hit), undefined);
    }));

test('chat: the policy stops what a mistake would let through', () =>
    onPage('/chat', async (page) => {
        for (const path of ['/chat', '/dashboard', '/web/chat.js']) {
            const headers = (await fetch(address + path)).headers;
            assert.match(headers.get('content-security-policy'), /^default-src 'none'; script-src 'self';/);
            assert.equal(headers.get('x-content-type-options'), 'nosniff');
            assert.equal(headers.get('referrer-policy'), 'no-referrer');
        }
        assert.equal((await fetch(`${address}/web/secret.js`)).status, 404);
        assert.equal((await fetch(`${address}/web/..%2f..%2fetc%2fpasswd`)).status, 404);
        const refused = await page.evaluate(async () => {
            const results = [];
            try {
                document.body.innerHTML += '<img src=x onerror="window.hit = 1">';
            } catch (e) {
                results.push(e.name);
            }
            const script = document.createElement('script');
            try {
                script.text = 'window.hit = 1';
                document.body.append(script);
            } catch (e) {
                results.push(e.name);
            }
            await fetch('https://evil.example/').catch(() => results.push('fetch'));
            return [window.hit, ...results];
        });
        assert.deepEqual(refused, [null, 'TypeError', 'TypeError', 'fetch'].map((x) => x ?? undefined));
    }, { expectErrors: true }));

test('markdown: what it looks like', () =>
    onPage('/chat', async (page) => {
        const cases = {
            '# A ##\ntext': '<h1>A</h1><p>text</p>',
            'a **b** *c* ~~d~~ `e <f>`': '<p>a <strong>b</strong> <em>c</em> <del>d</del> <code>e &lt;f&gt;</code></p>',
            '**a *b* c**': '<p><strong>a <em>b</em> c</strong></p>',
            'snake_case_name and 2 * 3 * 4': '<p>snake_case_name and 2 * 3 * 4</p>',
            'not \\*so\\* and **open': '<p>not *so* and **open</p>',
            'one\ntwo\n\nthree': '<p>one<br>two</p><p>three</p>',
            '- a\n- b\n  - c\n- d': '<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>',
            '- a\n\n- b': '<ul><li><p>a</p></li><li><p>b</p></li></ul>',
            'a [link][1] here\n\n[1]: https://a.example/x': '<p>a <a href="https://a.example/x" target="_blank" rel="noopener noreferrer">link</a> here</p>',
            'costs $5 and $6, \\$x\\$': '<p>costs $5 and $6, $x$</p>',
            '3. a\n4. b': '<ol start="3"><li>a</li><li>b</li></ol>',
            '> a\n> > b': '<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>',
            '---': '<hr>',
            '`` a ` b ``': '<p><code>a ` b</code></p>',
            'see https://a.example/b_c_d.': '<p>see <a href="https://a.example/b_c_d" target="_blank" rel="noopener noreferrer">https://a.example/b_c_d</a>.</p>',
            '': '',
        };
        for (const [source, expected] of Object.entries(cases)) assert.equal(await html(page, source), expected, source);
        const code = await html(page, '```mine\nif (a < b) {\n\n}\n```\nafter');
        assert.match(code, /<span>mine<\/span>.*<code>if \(a &lt; b\) {\n\n}<\/code>.*<p>after<\/p>$/s);
        assert.match(await html(page, '```\nopen'), /<code>open<\/code>/);
        const table = await html(page, '| a | b |\n|:-:|--:|\n| 1 | `x\\|y` |');
        assert.match(table, /<th class="center">a<\/th>.*<td class="right"><code>x\|y<\/code><\/td>/s);
        const coloured = await html(page, '```py\ndef f():\n    return "a < b"  # so\n```');
        assert.match(coloured, /<span class="hl-keyword">def<\/span> <span class="hl-title">f<\/span>/);
        assert.match(coloured, /<span class="hl-string">"a &lt; b"<\/span> {2}<span class="hl-comment"># so<\/span>/);
        // Growing by a character at a time ends where showing all at once does.
        const text = Object.keys(cases).join('\n\n') + '\n\n```\nx\n```\n| a | b |\n|---|---|\n| c | d |';
        const grown = await page.evaluate(async (all) => {
            const { renderMarkdown } = await import('/web/markdown.js');
            const target = document.createElement('div');
            for (let n = 0; n <= all.length; ++n) renderMarkdown(target, all.slice(0, n));
            return target.innerHTML;
        }, text);
        assert.equal(grown, await html(page, text));
    }));

test('markdown: formulae are MathML, and name nothing on the page', () =>
    onPage('/chat', async (page) => {
        const inline = await html(page, 'So $x^2$ and \\(\\frac{1}{2}\\) are');
        assert.match(inline, /^<p>So <span class="formula"><math>.*<msup>.*<\/span> and <span class="formula"><math>.*<mfrac>.*<\/span> are<\/p>$/s);
        for (const block of ['$$\n\\sum_{i=1}^n i\n$$', '\\[\n\\sum_{i=1}^n i\n\\]', 'text\n\\[ \\sum_{i=1}^n i \\]\nmore']) {
            const drawn = await html(page, block);
            assert.match(drawn, /<p class="formula block"><math[^>]* display="block"[^>]*>.*<munderover>.*∑/s, block);
        }
        assert.match(await html(page, '- a\n- $$y_1$$\n\n| a |\n|---|\n| $z^2$ |'), /<li>.*<msub>.*<td class="left">|<td>.*<msup>/s);
        for (const wrong of ['$\\frac{$', '\\(\\notacommand{x}\\)']) {
            assert.match(await html(page, wrong), /^<p>(<span class="formula"><code>)?[$\\]/, wrong);
        }
        const evil = await html(page, '$\\href{javascript:alert(1)}{x} \\label{message} \\class{a}{b} \\includegraphics{https://evil.example/x.png} \\url{https://evil.example}$');
        assert.ok(!/href=|src=|id=|<img|<a /.test(evil), evil);
        const loop = await html(page, '$\\def\\a{\\a\\a}\\a$');
        assert.match(loop, /<code>/);
    }));

test('all pages: nothing serious for axe, on a desktop and on a phone', async () => {
    const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
    for (const path of ['/chat', '/dashboard', '/', '/docs/index.html', '/docs/server.html']) {
        for (const options of [{}, phone, { colorScheme: 'dark' }]) {
            await onPage(path, async (page) => {
                if (path === '/chat') {
                    await answerWith(page, '# A\n\n```py\nx = "1"  # one\n```\n\n$x^2$ **b** `c` [d](https://a.example)\n\n| a |\n|---|\n| b |\n\n> c');
                    await ask(page, question);
                    for (const model of ['sees', 'large']) {  // sent, and waiting where it cannot be sent
                        await page.getByLabel('Model', { exact: true }).selectOption(model);
                        await showFile(page, scene);
                        if (model === 'sees') await ask(page, '');
                    }
                    await page.locator('#blind', { hasText: 'text alone' }).waitFor();
                    await page.getByRole('button', { name: 'Sampling' }).click();
                }
                if (path === '/dashboard') await page.locator('section').first().waitFor();
                await page.evaluate(axe);
                const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
                const serious = violations.filter((v) => ['serious', 'critical'].includes(v.impact))
                    .map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)).join(' | ')}`);
                assert.deepEqual(serious, [], path);
                assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${path} fits`);
            }, options);
        }
    }
});

test('markdown: no text is slow', () =>
    onPage('/chat', async (page) => {
        const pieces = ['*', '_', '`', '[', '](', '> ', '- ', '**a', '*a *', '_a ', '`a ', '[a](', '| ', '|-', '#', ' ', '\\', '~~~a\n', 'https://', '.', '<', '\n- ', '\n  - ', '\n> ', '# #', '![', 'a  \n',
            '$', '$a', '\\(', '\\[', '$$\n', '[a]: b\n', '``', '*a_ ', '&', '(https://'];
        for (const piece of pieces) {
            const ms = await page.evaluate(async (text) => {
                const { renderMarkdown } = await import('/web/markdown.js');
                const started = performance.now();
                renderMarkdown(document.createElement('div'), text);
                return performance.now() - started;
            }, piece.repeat(300_000 / piece.length));
            assert.ok(ms < 10_000, `${JSON.stringify(piece)}: ${ms} ms`);
        }
    }));

test('markdown: what is drawn is bounded, the rest is text', () =>
    onPage('/chat', async (page) => {
        const draw = (text) => page.evaluate(async (source) => {
            const { renderMarkdown } = await import('/web/markdown.js');
            const target = document.createElement('div');
            const started = performance.now();
            renderMarkdown(target, source);
            return { ms: performance.now() - started, elements: target.querySelectorAll('*').length, text: target.textContent };
        }, text);
        const wide = '|a'.repeat(2000) + '\n' + '|-'.repeat(2000) + '\n' + '|\n'.repeat(2000);
        const texts = [wide, ('|a|b|\n|-|-|\n' + '|c|d|\n'.repeat(50) + '\n').repeat(2000), '- a\n'.repeat(200_000),
            '> '.repeat(7) + '- *a*\n'.repeat(50_000), 'a\n\n'.repeat(100_000), '*a* '.repeat(8000).concat('\n\n').repeat(40),
            '|a'.repeat(2000).concat('|\n', '|-'.repeat(2000), '|\n', ('|b'.repeat(2000) + '|\n').repeat(2000)),
            '$x^2$ and $\\frac{a}{b}$\n\n'.repeat(10_000), '> '.repeat(40).concat('deep\n\n').repeat(100), '```py\nx = 1\n```\n'.repeat(10_000)];
        for (const text of texts) {
            const drawn = await draw(text + '\n\nthe end');
            assert.ok(drawn.ms < 5_000, `${JSON.stringify(text.slice(0, 20))}: ${drawn.ms} ms`);
            assert.ok(drawn.elements <= 20_100, `${JSON.stringify(text.slice(0, 20))}: ${drawn.elements} elements`);
            assert.ok(drawn.text.includes('the end'), JSON.stringify(text.slice(0, 20)));
        }
        const small = await draw('|a|b|\n|-|-|\n|c|d|\n');
        assert.equal(small.elements, 10);
    }));

test('chat: a huge answer leaves the page usable', () =>
    onPage('/chat', async (page) => {
        await answerWith(page, 'A line of **text** with `code`.\n\n'.repeat(8000) + '```\n' + 'x'.repeat(300_000));
        await ask(page, question);
        await page.getByLabel('Message', { exact: true }).fill('still here');
        assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'still here');
    }));

test('chat: history makes room for itself, is seen by other tabs, and can be deleted', () =>
    onPage('/chat', async (page, context) => {
        await page.evaluate(() => {
            const old = (i) => ({ id: `old${i}`, title: `old ${i}`, changed: i, messages: [{ role: 'user', content: 'x'.repeat(200_000) }] });
            for (let i = 0; ; ++i) {
                try {
                    localStorage.setItem(`smelt.chat.old${i}`, JSON.stringify(old(i)));
                } catch {
                    break;
                }
            }
            let filler = 'x'.repeat(1 << 17);
            for (; filler !== ''; filler = filler.slice(filler.length / 2 + 1)) {
                try {
                    localStorage.setItem(`fill${filler.length}`, filler);
                } catch {
                    // smaller pieces fit
                }
            }
        });
        const other = await context.newPage();
        await other.goto(`${address}/chat`);
        assert.ok(await other.getByRole('button', { name: 'old 0', exact: true }).isVisible());
        const said = [];
        page.on('dialog', (dialog) => {
            said.push(dialog.message());
            return dialog.accept();
        });
        await sampling(page, { Temperature: '0' });
        await ask(page, question);
        await other.getByRole('button', { name: question, exact: true }).waitFor();
        assert.equal(await other.getByRole('button', { name: 'old 0', exact: true }).count(), 0);
        assert.match(said[0], /Delete the oldest conversation, “old 0”\? Export keeps all/, 'nothing goes unasked');
        await page.getByRole('button', { name: `Delete ${question}` }).click();
        await other.getByRole('button', { name: question, exact: true }).waitFor({ state: 'detached' });
        assert.equal(await page.locator('article').count(), 0);
    }));

test('chat: a server with keys asks for one', () =>
    onPage('/chat', async (page) => {
        const dialog = page.getByRole('dialog', { name: 'API key' });
        await dialog.waitFor();
        await dialog.getByLabel('Key').fill('wrong');
        await dialog.getByRole('button', { name: 'Use' }).click();
        await dialog.getByText('not valid').waitFor();
        await dialog.getByLabel('Key').fill('secret-key');
        await page.keyboard.press('Enter');
        await page.locator('#model option', { hasText: 'demo-5m' }).waitFor({ state: 'attached' });
        await ask(page, question);
        assert.notEqual(await lastAnswer(page).locator('.text').innerText(), '');
        await page.goto(`${locked}/dashboard`);
        await page.locator('section', { hasText: 'demo-5m' }).waitFor();
        assert.equal(await dialog.isVisible(), false);
    }, { base: locked, expectErrors: true }));

test('chat: on a phone', () =>
    onPage('/chat', async (page) => {
        const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
        assert.ok(await fits());
        await answerWith(page, '| a | b |\n|---|---|\n| ' + 'wide'.repeat(100) + ' | c |\n\n```\n' + 'x'.repeat(500) + '\n```\n\n' + 'y'.repeat(500));
        await ask(page, question);
        assert.ok(await fits());
        await page.getByRole('button', { name: 'Sampling' }).click();
        assert.ok(await fits());
        assert.equal(await page.getByRole('button', { name: 'New conversation' }).isVisible(), false);
        await page.getByRole('button', { name: 'Conversations' }).click();
        await page.getByRole('button', { name: 'New conversation' }).click();
        assert.equal(await page.getByRole('button', { name: 'New conversation' }).isVisible(), false);
        assert.equal(await page.locator('article').count(), 0);
        // A touch beside the list closes it.
        await page.getByRole('button', { name: 'Conversations' }).click();
        assert.ok(await page.getByRole('button', { name: 'New conversation' }).isVisible());
        await page.touchscreen.tap(345, 400);
        assert.equal(await page.getByRole('button', { name: 'New conversation' }).isVisible(), false);
    }, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true }));

for (const [size, options] of sizes) {
test(`chat: conversations are renamed, searched, exported and imported, on a ${size}`, () =>
    onPage('/chat', async (page, context) => {
        await answerWith(page, 'A fine answer about *otters*.');
        await ask(page, 'first question');
        await showSide(page);
        await page.getByRole('button', { name: 'New conversation' }).click();
        await ask(page, 'second question');
        await showSide(page);
        page.once('dialog', (dialog) => dialog.accept('My notes'));
        await page.getByRole('button', { name: 'Rename first question' }).click();
        await page.getByRole('button', { name: 'My notes', exact: true }).waitFor();
        const titles = () => page.locator('#chats .open').allInnerTexts();
        await page.getByLabel('Search conversations').fill('NOTES');
        assert.deepEqual(await titles(), ['My notes']);
        await page.getByLabel('Search conversations').fill('otters');
        assert.equal((await titles()).length, 2, 'answers are searched too');
        await page.getByLabel('Search conversations').fill('');
        const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export' }).click()]);
        const path = await download.path();
        const fresh = await context.newPage();
        await fresh.goto(`${address}/chat`);
        await fresh.evaluate(() => localStorage.clear());
        await fresh.reload();
        await showSide(fresh);
        assert.equal(await fresh.locator('#chats li').count(), 0);
        await fresh.getByLabel('Conversations to import').setInputFiles(path);
        await fresh.getByRole('button', { name: 'My notes', exact: true }).click();
        assert.equal(await fresh.locator('article.user .text').innerText(), 'first question');
        await showSide(fresh);
        const said = fresh.waitForEvent('dialog').then(async (d) => (await d.accept(), d.message()));
        await fresh.getByLabel('Conversations to import').setInputFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from('{"chats": 5}') });
        assert.match(await said, /x\.json: expected a file that this page exported/);
    }, { acceptDownloads: true, ...options }));

test(`chat: text files are attached, others are refused, on a ${size}`, () =>
    onPage('/chat', async (page) => {
        let sent;
        await page.route('**/v1/chat/completions', (route) => {
            sent = route.request().postDataJSON();
            route.fulfill({ contentType: 'text/event-stream', body: 'data: [DONE]\n\n' });
        });
        await page.getByLabel('Message', { exact: true }).fill('What is this?');
        await page.getByLabel('Files', { exact: true }).setInputFiles({ name: 'a.py', mimeType: 'text/plain', buffer: Buffer.from('print("```")\n') });
        await page.waitForFunction(() => document.getElementById('message').value.includes('a.py'));
        const said = page.waitForEvent('dialog').then(async (d) => (await d.accept(), d.message()));
        await page.getByLabel('Files', { exact: true }).setInputFiles({ name: 'b.bin', mimeType: 'application/octet-stream', buffer: Buffer.from([0x89, 0x50, 0xff, 0]) });
        assert.match(await said, /b\.bin: not a text in UTF-8/);
        await page.getByLabel('Message', { exact: true }).press('Enter');
        await isDone(page);
        assert.equal(sent.messages.at(-1).content, 'What is this?\n\na.py:\n````\nprint("```")\n````\n');
    }, options));

test(`chat: pictures by file, paste and drop are sent, shown, kept and exported, on a ${size}`, () =>
    onPage('/chat', async (page, context) => {
        await page.getByLabel('Model', { exact: true }).selectOption('sees');
        const shown = page.locator('#pictures img');
        await showFile(page, scene);
        await shown.waitFor();
        const sent = page.waitForRequest('**/v1/chat/completions');
        await ask(page, 'How many red circles are there?');
        const [message] = (await sent).postDataJSON().messages;
        assert.deepEqual(message.content, [
            { type: 'image_url', image_url: { url: `data:image/png;base64,${readFileSync(scene).toString('base64')}` } },
            { type: 'text', text: 'How many red circles are there?' },
        ]);
        assert.equal(await lastAnswer(page).locator('.text').innerText(), 'There are 3 red circles.');
        assert.equal(await page.locator('article.user img').count(), 1);
        assert.equal(await shown.count(), 0);
        await page.screenshot({ path: `pictures-${size}.png` });

        // Pasted and dropped, one taken away again; a picture alone is a message.
        await give(page, 'paste', scene);
        await give(page, 'drop', scene);
        await page.waitForFunction(() => document.querySelectorAll('#pictures img').length === 2);
        await page.screenshot({ path: `pictures-waiting-${size}.png` });
        await page.getByRole('button', { name: 'Remove picture 2' }).click();
        assert.equal(await shown.count(), 1);
        await ask(page, '');
        await page.locator('article.user').last().locator('img').waitFor();
        assert.equal(await lastAnswer(page).locator('.error').isVisible(), false);

        // Kept, and in the file of exports; the question is asked again with its picture.
        await showSide(page);
        const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export' }).click()]);
        const path = await download.path();
        const fresh = await context.newPage();
        await fresh.goto(`${address}/chat`);
        await fresh.evaluate(() => localStorage.clear());
        await fresh.reload();
        await showSide(fresh);
        await fresh.getByLabel('Conversations to import').setInputFiles(path);
        await fresh.getByRole('button', { name: 'How many red circles are there?', exact: true }).click();
        await fresh.waitForFunction(() => [...document.querySelectorAll('article.user img')].every((i) => i.naturalWidth === 384));
        await fresh.getByLabel('Model', { exact: true }).selectOption('sees');
        await fresh.locator('article.assistant').first().getByRole('button', { name: 'Regenerate' }).click();
        await isDone(fresh);
        assert.equal(await lastAnswer(fresh).locator('.text').innerText(), 'There are 3 red circles.');

        // A file whose picture is elsewhere is none of the page's.
        const chats = JSON.parse(readFileSync(path, 'utf8'));
        chats.chats[0].messages[0].pictures = ['https://evil.example/pixel.png'];
        const said = fresh.waitForEvent('dialog').then(async (d) => (await d.accept(), d.message()));
        await showSide(fresh);
        await fresh.getByLabel('Conversations to import').setInputFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(chats)) });
        assert.match(await said, /expected a file that this page exported/);
    }, { acceptDownloads: true, ...options }));

test(`chat: what cannot be seen is said, and pictures are bounded, on a ${size}`, () =>
    onPage('/chat', async (page) => {
        await page.getByLabel('Model', { exact: true }).selectOption('small');
        await showFile(page, scene);
        const blind = page.locator('#blind');
        await blind.getByText('The model small sees text alone').waitFor();
        await page.getByLabel('Message', { exact: true }).press('Enter');
        assert.equal(await page.locator('article').count(), 0);
        for (const model of ['sees', 'auto']) {
            await page.getByLabel('Model', { exact: true }).selectOption(model);
            assert.equal(await blind.textContent(), '');
        }
        await ask(page, 'How many red circles are there?');  // of auto one that sees is chosen
        assert.equal(await lastAnswer(page).locator('.text').innerText(), 'There are 3 red circles.');

        const refused = async (file, why) => {
            const said = page.waitForEvent('dialog').then(async (d) => (await d.accept(), d.message()));
            await showFile(page, file);
            assert.match(await said, why);
        };
        await refused({ name: 'b.png', mimeType: 'image/png', buffer: Buffer.from([0x89, 0x50, 0xff, 0]) }, /b\.png: not a picture that this browser can show/);
        // Noise is what compresses worst: it is drawn smaller until it fits.
        const noise = await page.evaluate(async () => {
            const canvas = new OffscreenCanvas(1500, 1000), context = canvas.getContext('2d'), image = context.createImageData(1500, 1000);
            for (let i = 0, seed = 1; i < image.data.length; ++i) image.data[i] = (seed = seed * 48271 % 0x7fffffff);
            context.putImageData(image, 0, 0);
            return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
        });
        for (let i = 0; i < 8; ++i) await showFile(page, { name: 'noise.png', mimeType: 'image/png', buffer: Buffer.from(noise) });
        await page.waitForFunction(() => document.querySelectorAll('#pictures img').length === 8);
        const lengths = await page.locator('#pictures img').evaluateAll((all) => all.map((i) => i.src.length));
        assert.ok(Math.max(...lengths) <= 300_000, `${lengths}`);
        await refused(scene, /at most 8 pictures/);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    }, options));

test(`chat: each conversation has its system message, and the model its details, on a ${size}`, () =>
    onPage('/chat', async (page) => {
        const sent = [];
        await page.route('**/v1/chat/completions', (route) => {
            sent.push(route.request().postDataJSON().messages[0]);
            route.fulfill({ contentType: 'text/event-stream', body: 'data: [DONE]\n\n' });
        });
        await page.getByRole('button', { name: 'Sampling' }).click();
        const system = page.getByLabel('System message');
        await system.fill('You are a pirate.');
        await ask(page, 'one');
        await showSide(page);
        await page.getByRole('button', { name: 'New conversation' }).click();
        await system.fill('You are a poet.');
        await ask(page, 'two');
        await showSide(page);
        await page.getByRole('button', { name: 'one', exact: true }).click();
        assert.equal(await system.inputValue(), 'You are a pirate.');
        await ask(page, 'three');
        assert.deepEqual(sent.map((m) => m.content), ['You are a pirate.', 'You are a poet.', 'You are a pirate.']);
        assert.match(await page.locator('#details').innerText(), /^qwen3, [\d.]+ MB of weights, context of \d+ tokens, /);
    }, options));

test(`chat: the page follows an answer, says how it ended, and leaves a reader alone, on a ${size}`, () =>
    onPage('/chat', async (page) => {
        await page.route('**/v1/chat/completions', (route) => route.continue({
            postData: JSON.stringify({ ...route.request().postDataJSON(), ignore_eos: true, max_completion_tokens: 400 }),
        }));
        const gap = () => page.evaluate(() => {
            const log = document.getElementById('log');
            return log.scrollHeight - log.scrollTop - log.clientHeight;
        });
        await ask(page, 'Tell me all about ripgrep.\n'.repeat(30));
        await page.waitForTimeout(2100);  // the last drawing
        assert.ok(await gap() < 40, `${await gap()} pixels from the end`);
        assert.match(await lastAnswer(page).locator('.facts').innerText(), /ended at the limit of tokens$/);
        await page.getByLabel('Message', { exact: true }).fill('And grep?');
        await page.keyboard.press('Enter');
        await page.evaluate(() => document.getElementById('log').scrollTo(0, 0));
        await isDone(page);
        assert.ok(await gap() > 40, 'who reads above is not moved');
    }, options));
}

test('chat: copies where there is no clipboard for pages, as over plain HTTP', () =>
    onPage('/chat', async (page) => {
        await page.evaluate(() => Object.defineProperty(navigator, 'clipboard', { value: undefined }));
        await answerWith(page, 'copy *this*\n\n```\nand this\n```');
        await ask(page, question);
        const field = page.getByLabel('Message', { exact: true });
        const paste = async () => {
            await field.fill('');
            await field.press('Control+V');
            return field.inputValue();
        };
        await lastAnswer(page).locator('footer').getByRole('button', { name: 'Copy' }).click();
        assert.equal(await paste(), 'copy *this*\n\n```\nand this\n```');
        await lastAnswer(page).locator('.code').getByRole('button', { name: 'Copy' }).click();
        assert.equal((await paste()).trim(), 'and this');
    }));

test('chat: with the keyboard alone, everything has a name', () =>
    onPage('/chat', async (page) => {
        assert.equal(await page.evaluate(() => document.activeElement.id), 'message');
        await page.keyboard.type('a');
        await page.keyboard.press('Shift+Enter');
        await page.keyboard.type('b');
        assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'a\nb');
        await page.keyboard.press('Enter');
        await page.locator('article.user').waitFor();
        await isDone(page);
        assert.equal(await page.evaluate(() => document.activeElement.id), 'message');
        const reached = new Set();
        for (let i = 0; i < 40; ++i) {
            await page.keyboard.press('Tab');
            reached.add(await page.evaluate(() => {
                const e = document.activeElement;
                return e.id || e.getAttribute('aria-label') || e.textContent;
            }));
        }
        for (const name of ['new', 'model', 'open-panel', 'theme', 'log', 'Copy', 'Edit', 'Regenerate', 'message', 'send']) {
            assert.ok(reached.has(name), `${name} is not among ${[...reached].join(', ')}`);
        }
        const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, select, textarea, summary')]
            .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.[0]?.textContent.trim())).map((e) => e.outerHTML));
        assert.deepEqual(nameless, []);
    }));

test('both pages: light, dark, and as the system', async () => {
    const back = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    for (const path of ['/chat', '/dashboard']) {
        await onPage(path, async (page) => {
            assert.equal(await back(page), 'rgb(25, 24, 22)');
            await page.locator('#theme').click();
            assert.equal(await back(page), 'rgb(255, 255, 255)');
            await page.reload();
            assert.equal(await back(page), 'rgb(255, 255, 255)');
            await page.locator('#theme').click();
            await page.emulateMedia({ colorScheme: 'light' });
            assert.equal(await back(page), 'rgb(25, 24, 22)');
        }, { colorScheme: 'dark' });
    }
});

test('documentation: every page opens, on a desktop and on a phone', async () => {
    for (const [size, options] of sizes) {
        await onPage('/docs', async (page) => {
            await page.waitForURL('**/docs/index.html');
            const links = await page.locator('#site-pages a').evaluateAll((all) => all.map((a) => a.href));
            assert.ok(links.length > 25);
            for (const link of links) {
                await page.goto(link);
                await page.locator('#site-pages a[aria-current]').waitFor({ state: 'attached' });
                assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${link} fits on a ${size}`);
            }
        }, options);
    }
});

test('documentation: what is searched is found', () =>
    onPage('/docs/index.html', async (page) => {
        await page.keyboard.press('/');
        await page.keyboard.type('api-key-file keys');
        const first = page.locator('#site-results a').first();
        await first.waitFor();
        await page.keyboard.press('ArrowDown');
        assert.equal(await page.evaluate(() => document.activeElement.closest('#site-results') !== null), true);
        await page.keyboard.press('Enter');
        await page.waitForURL(/\/docs\/(?!index).*\.html/);
        await page.getByLabel('Search', { exact: true }).fill('no page has qqzzxx');
        await page.getByText('Nothing has all of these words.').waitFor();
        await page.keyboard.press('Escape');
        assert.equal(await page.locator('#site-results').isHidden(), true);
    }));

test('dashboard: charts of what the server does', () =>
    onPage('/dashboard', async (page) => {
        const section = page.locator('section[aria-label=large]');
        await section.waitFor();
        assert.equal(await page.locator('section').count(), 4);
        for (let i = 0; i < 4; ++i) {
            const r = await fetch(`${address}/v1/completions`, {
                method: 'POST', body: JSON.stringify({ model: 'large', prompt: question, max_tokens: 300, ignore_eos: true }),
            });
            assert.equal(r.status, 200);
        }
        const chart = (name) => section.locator(`svg[aria-label^="${name}"]`);
        await page.waitForFunction(() => /p50 [\d.]+ m?s/.test(
            document.querySelector('section[aria-label=large] svg[aria-label^="Time between tokens"]').getAttribute('aria-label')));
        assert.match(await chart('Time to the first token').getAttribute('aria-label'), /p50 [\d.]+ m?s, p90 [\d.]+ m?s, p99 [\d.]+ m?s/);
        assert.match(await chart('Memory').getAttribute('aria-label'), /weights 46\.2 MB, KV cache [\d.]+ MB/);
        assert.match(await chart('KV cache').getAttribute('aria-label'), /in use \d+ %/);
        assert.match(await chart('Requests').getAttribute('aria-label'), /running \d+, waiting \d+, paused \d+/);
        assert.ok(await chart('Tokens a second').locator('polyline').count() >= 1);
        assert.match(await section.locator('small').innerText(), /\d+ answers/);
        await page.waitForFunction(() => /cores busy [\d.]+/.test(
            document.querySelector('section[aria-label=Server] svg[aria-label^=Processor]').getAttribute('aria-label')));
        // The cursor reads off an earlier second, by keyboard and by pointer.
        await chart('Tokens a second').focus();
        await page.keyboard.press('ArrowLeft');
        assert.equal(await chart('Tokens a second').locator('.cursor').count(), 1);
        await page.getByRole('button', { name: 'Pause' }).click();
        await page.getByRole('button', { name: 'Go on' }).waitFor();
        await page.getByLabel('Show').selectOption('60');
        await chart('Tokens a second').getByText('1 min ago').waitFor();
    }));

test('dashboard: says when the server is gone', () =>
    onPage('/dashboard', async (page) => {
        await page.locator('section').first().waitFor();
        await page.route('**/performance', (route) => route.abort());
        await page.getByText('the server cannot be reached').waitFor();
        await page.unroute('**/performance');
        await page.getByText('the server cannot be reached').waitFor({ state: 'detached' });
    }, { expectErrors: true }));

test('the documentation leads to both', () =>
    onPage('/', async (page) => {
        await page.getByRole('link', { name: 'Chat' }).click();
        await page.locator('#composer').waitFor();
        await page.goto(address);
        await page.getByRole('link', { name: 'dashboard' }).click();
        await page.locator('section').first().waitFor();
    }, { expectErrors: true }));
