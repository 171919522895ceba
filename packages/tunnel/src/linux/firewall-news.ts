/** Tells that somebody changed nftables: a tool that loads its own rules often flushes everybody's first. */
import { LinkNews } from './link-news.ts';

const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
const INTERVAL = 250;
/** Also when nothing is told: news can be lost, and what was tried then can have failed. */
const LONGEST_REST = 10_000;

/** Calls `onChange` soon after each change and every ten seconds, one at a time, until the function that it returns is called. It must not reject. */
export function watchFirewall(onChange: () => Promise<void>): () => void {
  const news = LinkNews.open(1 << (NFNLGRP_NFTABLES - 1), NETLINK_NETFILTER);
  let isBusy = false;
  let lastLook = performance.now();
  const look = async (): Promise<void> => {
    if (isBusy) return;
    const isTold = news?.drain() === true;
    if (!isTold && performance.now() - lastLook < LONGEST_REST) return;
    isBusy = true;
    await onChange();
    lastLook = performance.now();
    isBusy = false;
  };
  const timer = setInterval(() => void look(), INTERVAL);
  timer.unref();
  return () => {
    clearInterval(timer);
    news?.close();
  };
}
