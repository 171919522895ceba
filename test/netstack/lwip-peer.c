/*
 * lwIP's TCP/IP as a program: packets and commands on standard input, packets and reports on standard output. Each is a
 * frame: its kind, its length in two bytes, its content. Commands and reports are text:
 *
 *   listen PORT SEND WHAT          connect ADDRESS PORT SEND WHAT          open
 *   done ID RECEIVED WRONG-AT ENDED ERROR
 *
 * A connection sends SEND bytes of stream 1 and checks what comes against stream 2. WHAT it does besides: `end` its
 * direction once all is sent, `after` the other side has, `reset` at the first byte, `pause` until `open` is said.
 */
#include <lwip/ip_addr.h>
#include <lwip/netif.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <lwip/tcpip.h>
#include <lwip/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MTU 1500
#define CHUNK 1460

struct talk {
  struct tcp_pcb *pcb;
  struct pbuf *held;
  struct talk *next;
  char what[8];
  int id, ended, finished;
  long send, sent, received, wrong_at;
};

static struct netif wire;
static struct talk *talks;
static int talk_count, is_open;

static void write_all(const void *bytes, size_t length) {
  for (const char *at = bytes; length > 0;) {
    ssize_t count = write(1, at, length);
    if (count <= 0) _exit(0);
    at += count;
    length -= count;
  }
}

/* Only ever called with lwIP's lock held, so frames do not mix. */
static void write_frame(char kind, const void *bytes, size_t length) {
  uint8_t frame[3 + MTU] = {(uint8_t)kind, (uint8_t)(length >> 8), (uint8_t)length};
  memcpy(frame + 3, bytes, length);
  write_all(frame, 3 + length);
}

static uint8_t stream_byte(uint32_t seed, uint32_t i) { return (uint32_t)((i + seed) * 0x9e3779b1u) >> 24; }

static void report(struct talk *talk, int error) {
  char text[120];
  if (talk->finished) return;
  talk->finished = 1;
  snprintf(text, sizeof text, "done %d %ld %ld %d %d", talk->id, talk->received, talk->wrong_at, talk->ended, error);
  write_frame('R', text, strlen(text));
}

static void end_when_due(struct talk *talk) {
  int is_sent = talk->sent == talk->send;
  if (talk->pcb == NULL) return;
  if (is_sent && (strcmp(talk->what, "after") == 0 ? talk->ended : strcmp(talk->what, "reset") != 0)) {
    if (talk->pcb->state == ESTABLISHED || talk->pcb->state == CLOSE_WAIT) tcp_shutdown(talk->pcb, 0, 1);
  }
}

static void pump(struct talk *talk) {
  while (talk->pcb != NULL && talk->sent < talk->send && tcp_sndbuf(talk->pcb) > 0) {
    uint8_t bytes[CHUNK];
    long length = talk->send - talk->sent;
    if (length > CHUNK) length = CHUNK;
    if (length > tcp_sndbuf(talk->pcb)) length = tcp_sndbuf(talk->pcb);
    for (long i = 0; i < length; i++) bytes[i] = stream_byte(1, talk->sent + i);
    if (tcp_write(talk->pcb, bytes, length, TCP_WRITE_FLAG_COPY) != ERR_OK) break;
    talk->sent += length;
  }
  if (talk->pcb != NULL) tcp_output(talk->pcb);
  end_when_due(talk);
}

static void take(struct talk *talk) {
  struct pbuf *p = talk->held;
  talk->held = NULL;
  if (p == NULL) return;
  for (struct pbuf *q = p; q != NULL; q = q->next) {
    for (int i = 0; i < q->len; i++, talk->received++) {
      if (talk->wrong_at < 0 && ((uint8_t *)q->payload)[i] != stream_byte(2, talk->received)) talk->wrong_at = talk->received;
    }
  }
  if (talk->pcb != NULL) tcp_recved(talk->pcb, p->tot_len);
  pbuf_free(p);
}

static err_t on_receive(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t error) {
  struct talk *talk = arg;
  if (p == NULL) {
    talk->ended = 1;
    end_when_due(talk);
    /* Where both have ended and this side did first, lwIP has nothing more to tell. */
    if (pcb->state == TIME_WAIT || pcb->state == CLOSING) {
      report(talk, 0);
      talk->pcb = NULL;
    }
    return ERR_OK;
  }
  if (strcmp(talk->what, "reset") == 0) {
    pbuf_free(p);
    report(talk, 0);
    talk->pcb = NULL;
    tcp_abort(pcb);
    return ERR_ABRT;
  }
  if (talk->held == NULL) talk->held = p;
  else pbuf_cat(talk->held, p);
  if (is_open || strcmp(talk->what, "pause") != 0) take(talk);
  return error;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t length) {
  (void)pcb, (void)length;
  pump(arg);
  return ERR_OK;
}

static void on_error(void *arg, err_t error) {
  struct talk *talk = arg;
  talk->pcb = NULL;
  /* A connection that ended in both directions is told of as one that was closed. */
  report(talk, error == ERR_CLSD ? 0 : error);
}

static err_t on_poll(void *arg, struct tcp_pcb *pcb) {
  (void)pcb;
  pump(arg);
  return ERR_OK;
}

static void begin(struct talk *talk, struct tcp_pcb *pcb) {
  talk->pcb = pcb;
  talk->id = talk_count++;
  talk->wrong_at = -1;
  talk->next = talks;
  talks = talk;
  tcp_arg(pcb, talk);
  tcp_recv(pcb, on_receive);
  tcp_sent(pcb, on_sent);
  tcp_err(pcb, on_error);
  tcp_poll(pcb, on_poll, 1);
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t error) {
  (void)pcb;
  pump(arg);
  return error;
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t error) {
  struct talk *model = arg, *talk = malloc(sizeof *talk);
  if (error != ERR_OK) return error;
  *talk = *model;
  begin(talk, pcb);
  pump(talk);
  return ERR_OK;
}

static void on_datagram(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port) {
  (void)arg;
  udp_sendto(pcb, p, from, port);
  pbuf_free(p);
}

static void command(char *text) {
  char verb[16], where[64];
  int port;
  struct talk *talk = calloc(1, sizeof *talk);
  if (sscanf(text, "listen %d %ld %7s", &port, &talk->send, talk->what) == 3) {
    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
    tcp_bind(pcb, IP_ANY_TYPE, port);
    pcb = tcp_listen(pcb);
    tcp_arg(pcb, talk);
    tcp_accept(pcb, on_accept);
  } else if (sscanf(text, "%15s %63s %d %ld %7s", verb, where, &port, &talk->send, talk->what) == 5) {
    ip_addr_t address;
    ipaddr_aton(where, &address);
    struct tcp_pcb *pcb = tcp_new_ip_type(IP_GET_TYPE(&address));
    begin(talk, pcb);
    tcp_connect(pcb, &address, port, on_connected);
  } else if (strcmp(text, "open") == 0) {
    is_open = 1;
    for (struct talk *each = talks; each != NULL; each = each->next) take(each);
  }
}

static err_t send_packet(struct pbuf *p) {
  uint8_t bytes[MTU];
  write_frame('P', bytes, pbuf_copy_partial(p, bytes, sizeof bytes, 0));
  return ERR_OK;
}

static err_t send_v4(struct netif *netif, struct pbuf *p, const ip4_addr_t *to) {
  (void)netif, (void)to;
  return send_packet(p);
}

static err_t send_v6(struct netif *netif, struct pbuf *p, const ip6_addr_t *to) {
  (void)netif, (void)to;
  return send_packet(p);
}

static err_t init_wire(struct netif *netif) {
  netif->output = send_v4;
  netif->output_ip6 = send_v6;
  netif->mtu = MTU;
  netif->name[0] = 'w';
  return ERR_OK;
}

static void set_up(void *done) {
  ip4_addr_t own, mask, gateway;
  ip6_addr_t own6;
  ip4addr_aton("192.0.2.1", &own);
  ip4addr_aton("255.255.255.0", &mask);
  ip4addr_aton("192.0.2.2", &gateway);
  ip6addr_aton("fd00:5ea::1", &own6);
  netif_add(&wire, &own, &mask, &gateway, NULL, init_wire, tcpip_input);
  netif_ip6_addr_set(&wire, 0, &own6);
  netif_ip6_addr_set_state(&wire, 0, IP6_ADDR_PREFERRED);
  netif_set_default(&wire);
  netif_set_up(&wire);
  netif_set_link_up(&wire);
  struct udp_pcb *echo = udp_new_ip_type(IPADDR_TYPE_ANY);
  udp_bind(echo, IP_ANY_TYPE, 7);
  udp_recv(echo, on_datagram, NULL);
  write_frame('R', "ready", 5);
  (void)done;
}

static int read_all(void *bytes, size_t length) {
  for (char *at = bytes; length > 0;) {
    ssize_t count = read(0, at, length);
    if (count <= 0) return 0;
    at += count;
    length -= count;
  }
  return 1;
}

int main(void) {
  uint8_t head[3];
  char bytes[65536];
  tcpip_init(set_up, NULL);
  while (read_all(head, 3)) {
    size_t length = head[1] << 8 | head[2];
    if (!read_all(bytes, length)) break;
    if (head[0] == 'C') {
      bytes[length] = 0;
      LOCK_TCPIP_CORE();
      command(bytes);
      UNLOCK_TCPIP_CORE();
      continue;
    }
    struct pbuf *p = pbuf_alloc(PBUF_RAW, length, PBUF_RAM);
    pbuf_take(p, bytes, length);
    if (wire.input(p, &wire) != ERR_OK) pbuf_free(p);
  }
  return 0;
}
