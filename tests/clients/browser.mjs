// A headless Chromium, controlled by one JSON text per line. Must find elements only as a person or a screen reader would, or by
// data-testid.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const DEADLINE = 20_000;
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
const tabs = new Map();
const element = ({ tab, testid }) => tabs.get(tab).getByTestId(testid);

const steps = {
  async open({ tab, url }) {
    const context = await browser.newContext({ viewport: { width: 900, height: 700 } });
    const page = await context.newPage();
    page.setDefaultTimeout(DEADLINE);
    tabs.set(tab, page);
    await page.goto(url);
  },
  type: async (step) => {
    await element(step).clear();
    await element(step).pressSequentially(step.text);
  },
  click: (step) => element(step).click(),
  select: (step) => element(step).selectOption(step.option),
  choose: (step) => element(step).setInputFiles(step.file),
  resize: ({ tab, width, height }) => tabs.get(tab).setViewportSize({ width, height }),
  see: (step) => element(step).filter({ hasText: step.text }).first().waitFor(),
  count: async (step) => ({ count: (await element(step).innerText()).split(step.text).length - 1 }),
  // Collects the text at each change from now on, and the longest task of the page's own thread.
  watch: (step) =>
    element(step).evaluate((place) => {
      const seen = { texts: [], longestMs: 0 };
      const changes = new MutationObserver(() => seen.texts.push(place.textContent));
      changes.observe(place, { subtree: true, characterData: true, childList: true });
      const longest = (tasks) => (seen.longestMs = Math.max(seen.longestMs, ...tasks.map((task) => task.duration)));
      const tasks = new PerformanceObserver((list) => longest(list.getEntries()));
      tasks.observe({ type: "longtask" });
      window.watched = () => {
        longest(tasks.takeRecords());
        for (const observer of [changes, tasks]) observer.disconnect();
        return seen;
      };
    }),
  watched: ({ tab }) => tabs.get(tab).evaluate(() => window.watched()),
  // Elements that are wider than their container or extend beyond the window. Text cut off with an ellipsis is intended.
  overflowing: ({ tab }) =>
    tabs.get(tab).evaluate(() => {
      const name = (element) => `${element.tagName.toLowerCase()}${element.id && `#${element.id}`} ${element.className}`;
      const found = [];
      for (const element of [document.documentElement, ...document.body.querySelectorAll("*")]) {
        const { display, textOverflow } = getComputedStyle(element);
        const { right, width } = element.getBoundingClientRect();
        if (width === 0 || element.matches(".unseen") || textOverflow === "ellipsis") continue;
        const wide = display !== "inline" && element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1;
        if (wide || right > innerWidth + 1) found.push(`${name(element)}: ${element.scrollWidth} in ${element.clientWidth}, to ${Math.round(right)}`);
      }
      return { found };
    }),
  screenshot: ({ tab, file }) => tabs.get(tab).screenshot({ path: file }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const step = JSON.parse(line);
  let answer;
  try {
    answer = (await steps[step.do](step)) ?? {};
  } catch (error) {
    const page = tabs.get(step.tab);
    const shown = page ? await page.locator("body").innerText().catch(() => "") : "";
    answer = { failed: `${error.message}; the page shows: ${shown}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
