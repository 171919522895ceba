const colors = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
const paint = (code) => (text) => (colors ? `\u001b[${code}m${text}\u001b[0m` : text);
const green = paint(32);
const red = paint(31);
const dim = paint(2);
const bold = paint(1);

/** Says what happens: steps that stay, and on a terminal one line below them that lives. */
export class Display {
  finished = false;
  #live = false;
  #lastPlain = 0;

  title(text) {
    this.#line(`\n${bold(text)}\n`);
  }

  step(label, detail) {
    this.#line(`  ${green('✓')} ${label.padEnd(12)} ${detail}`);
  }

  /** The moving line; without a terminal one line a second. */
  live(text) {
    if (process.stdout.isTTY) {
      process.stdout.write(`\r\u001b[2K    ${text.slice(0, (process.stdout.columns ?? 80) - 6)}`);
      this.#live = true;
    } else if (Date.now() - this.#lastPlain >= 1000) {
      this.#lastPlain = Date.now();
      process.stdout.write(`    ${text}\n`);
    }
  }

  summary(text) {
    this.#line(`\n${green(bold('It works.'))} ${text}\n`);
    this.finished = true;
  }

  note(text) {
    this.#line(`  ${dim(text)}`);
  }

  failed(reason, details = []) {
    this.#line(`\n${red(bold('It failed:'))} ${reason}`);
    for (const detail of details) if (!reason.includes(detail)) process.stdout.write(`  ${detail}\n`);
  }

  interrupt() {
    this.#line('');
  }

  #line(text) {
    if (this.#live) process.stdout.write('\r\u001b[2K');
    this.#live = false;
    process.stdout.write(`${text}\n`);
  }
}

export function ms(value) {
  return `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ms`;
}

export function megabits(bytes, elapsedMs) {
  const rate = (bytes * 8) / elapsedMs / 1000;
  return `${rate.toFixed(rate < 10 ? 2 : 0)} Mbit/s`;
}

export function mebibytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
