/** Tells that somebody changed nftables: a tool that loads its own rules often flushes everybody's first. */
import { LinkNews } from './link-news.ts';

const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
const INTERVAL = 250;
/** Where the system tells nothing. */
const POLL_INTERVAL = 5_000;

/** Calls `onChange` soon after each change, one at a time, until the function that it returns is called. It must not reject. */
export function watchFirewall(onChange: () => Promise<void>): () => void {
  const news = LinkNews.open(1 << (NFNLGRP_NFTABLES - 1), NETLINK_NETFILTER);
  let isBusy = false;
  const look = async (): Promise<void> => {
    if (isBusy || news?.drain() === false) return;
    isBusy = true;
    await onChange();
    isBusy = false;
  };
  const timer = setInterval(() => void look(), news === undefined ? POLL_INTERVAL : INTERVAL);
  timer.unref();
  return () => {
    clearInterval(timer);
    news?.close();
  };
}
