/** Tells that somebody changed nftables: a tool that loads its own rules often flushes everybody's first. */
import { LinkNews } from './link-news.ts';

const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
const INTERVAL = 250;
/** After a failure, in a fight, and where the system tells nothing. */
const LONG_INTERVAL = 5_000;
/** As often as this in a row somebody changes it again at once: a program that will not stop, and neither do we. */
const FIGHT = 10;

/** Nothing was to be done; what somebody changed is as it was again; that failed. */
export type FirewallState = 'whole' | 'restored' | 'failed';

/**
 * Calls `look` soon, and soon after each change, one at a time, until the function that it returns is called. When that did not find all
 * `whole` it is called again in five seconds at the latest, and after ten times in a row only then. It must not reject.
 */
export function watchFirewall(look: () => Promise<FirewallState>): () => void {
  const news = LinkNews.open(1 << (NFNLGRP_NFTABLES - 1), NETLINK_NETFILTER);
  const schedule = new LookSchedule(news !== undefined);
  let isBusy = false;
  const turn = async (): Promise<void> => {
    if (isBusy || !schedule.isDue(news?.drain() === true, performance.now())) return;
    isBusy = true;
    schedule.looked(await look(), performance.now());
    isBusy = false;
  };
  const timer = setInterval(() => void turn(), INTERVAL);
  timer.unref();
  return () => {
    clearInterval(timer);
    news?.close();
  };
}

/** When to look. Times are milliseconds of one clock. */
export class LookSchedule {
  readonly #isTold: boolean;
  #hasToLook = true;
  #inARow = 0;
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(isTold: boolean) {
    this.#isTold = isTold;
  }

  isDue(isNews: boolean, now: number): boolean {
    if (isNews && this.#inARow < FIGHT) return true;
    return this.#hasToLook && now - this.#lookedAt >= LONG_INTERVAL;
  }

  looked(state: FirewallState, now: number): void {
    this.#inARow = state === 'whole' ? 0 : this.#inARow + 1;
    this.#hasToLook = state !== 'whole' || !this.#isTold;
    this.#lookedAt = now;
  }
}
