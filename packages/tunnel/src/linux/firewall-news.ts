/** Tells that somebody changed nftables: a tool that loads its own rules often flushes everybody's first. */
import { LinkNews } from './link-news.ts';

const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
const INTERVAL = 250;
/** After a failure, and where the system tells nothing. */
const LONG_INTERVAL = 5_000;

/**
 * Calls `onChange` soon after each change, one at a time, until the function that it returns is called.
 * What it resolves to says whether it succeeded: if not, it is called again in five seconds. It must not reject.
 */
export function watchFirewall(onChange: () => Promise<boolean>): () => void {
  const news = LinkNews.open(1 << (NFNLGRP_NFTABLES - 1), NETLINK_NETFILTER);
  let isBusy = false;
  let hasToTry = news === undefined;
  let ended = performance.now();
  const look = async (): Promise<void> => {
    if (isBusy) return;
    const isTold = news?.drain() === true;
    if (!isTold && !(hasToTry && performance.now() - ended >= LONG_INTERVAL)) return;
    isBusy = true;
    hasToTry = !(await onChange()) || news === undefined;
    ended = performance.now();
    isBusy = false;
  };
  const timer = setInterval(() => void look(), INTERVAL);
  timer.unref();
  return () => {
    clearInterval(timer);
    news?.close();
  };
}
