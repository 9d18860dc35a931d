// A Chromium for the tests and the screenshots.
import { chromium } from 'playwright-core';

export function launch() {
    return chromium.launch({
        executablePath: process.env.CHROMIUM || undefined,
        args: ['--no-sandbox', '--disable-dev-shm-usage'],  // as root, and in containers with a small /dev/shm
    });
}
