// The README's pictures: a session with the bundled model. usage: node screenshots.mjs ADDRESS OUT_DIR
import { launch } from './browser.mjs';

const [address, out] = process.argv.slice(2);
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1100, height: 720 } });

await page.goto(`${address}/chat`);
await page.getByRole('button', { name: 'Sampling' }).click();
await page.getByLabel('Temperature').fill('0');
await page.getByRole('button', { name: 'Sampling' }).click();
async function ask(text) {
    await page.getByLabel('Message', { exact: true }).fill(text);
    await page.keyboard.press('Enter');
    await page.locator('article.assistant[aria-busy=false]').last().waitFor();
    await page.locator('#send:not([hidden])').waitFor();
}
await ask('What is ripgrep?');
await page.getByRole('button', { name: 'New conversation' }).click();
await ask('What is 12 + 30?');
await page.locator('summary').last().click();
await ask('What is tmux?');
await page.screenshot({ path: `${out}/chat.png` });

// What the page draws, on a phone; the text is this script's, since no small model writes it.
const text = `The area under a bell curve is $\\sqrt{2\\pi}\\,\\sigma$, since

$$\\int_{-\\infty}^{\\infty} e^{-x^2/2\\sigma^2}\\,dx = \\sigma\\sqrt{2\\pi}$$

| σ | area |
|--:|-----:|
| 1 | 2.507 |
| 2 | 5.013 |

\`\`\`python
def area(sigma):  # of the curve
    return sigma * math.sqrt(2 * math.pi)
\`\`\`
`;
const phone = await browser.newPage({ viewport: { width: 390, height: 720 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
await phone.route('**/v1/chat/completions', (route) => route.fulfill({
    contentType: 'text/event-stream',
    body: [{ delta: { content: text } }, { delta: {}, finish_reason: 'stop' }]
        .map((choice) => `data: ${JSON.stringify({ choices: [choice] })}\n\n`).join('') + 'data: [DONE]\n\n',
}));
await phone.goto(`${address}/chat`);
await phone.getByLabel('Message', { exact: true }).fill('What is the area under a bell curve?');
await phone.keyboard.press('Enter');
await phone.locator('#send:not([hidden])').waitFor();
await phone.screenshot({ path: `${out}/phone.png` });
await phone.close();

// A minute of five clients, and what it looks like at its end.
await page.goto(`${address}/dashboard`);
await page.getByLabel('Show').selectOption('60');
await page.setViewportSize({ width: 1100, height: 960 });
const end = Date.now() + 60_000;
const questions = ['What is ripgrep?', 'What is 12 + 30?', 'What is tmux?', 'What does tar do?', 'What is a harbour?'];
const clients = Promise.all(questions.map(async (content, i) => {
    while (Date.now() < end) {
        await fetch(`${address}/v1/chat/completions`, {
            method: 'POST', body: JSON.stringify({ model: 'large', messages: [{ role: 'user', content }] }),
        }).then((r) => r.text());
        await new Promise((done) => setTimeout(done, 1000 * i));
    }
}));
await new Promise((done) => setTimeout(done, end - Date.now() - 2000));
await page.screenshot({ path: `${out}/dashboard.png` });
await clients;
await browser.close();
