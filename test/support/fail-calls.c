/*
 * Preloaded into a program (ld.so(8), LD_PRELOAD), makes its system calls on UDP sockets and TUN interfaces fail as often as somebody else
 * says, and counts them. The file SEALANE_FAIL_CALLS is shared with whoever says so: an array of `struct call`, in the order of `enum kind`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { RECEIVE, SEND, WRITE, POLL, KINDS };

struct call {
  /* The error number that the next `left` calls fail with. */
  int32_t error;
  int32_t left;
  int32_t failed;
  int32_t made;
};

static struct call unused[KINDS];
static struct call *calls = unused;

__attribute__((constructor)) static void share(void) {
  const char *path = getenv("SEALANE_FAIL_CALLS");
  int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  void *shared = mmap(NULL, sizeof(unused), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (shared != MAP_FAILED) calls = shared;
}

static int fails(enum kind kind) {
  struct call *call = &calls[kind];
  __atomic_add_fetch(&call->made, 1, __ATOMIC_SEQ_CST);
  for (int32_t left = __atomic_load_n(&call->left, __ATOMIC_SEQ_CST); left > 0;) {
    if (!__atomic_compare_exchange_n(&call->left, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) continue;
    __atomic_add_fetch(&call->failed, 1, __ATOMIC_SEQ_CST);
    errno = call->error;
    return 1;
  }
  return 0;
}

static int is_udp(int fd) {
  int type = 0, domain = 0;
  socklen_t size = sizeof(int);
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM &&
         getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && (domain == AF_INET || domain == AF_INET6);
}

static int is_tun(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 200);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  return is_udp(fd) && fails(RECEIVE) ? -1 : REAL(recvmsg)(fd, message, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  return is_udp(fd) && fails(SEND) ? -1 : REAL(sendmsg)(fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
  return is_udp(fd) && fails(SEND) ? -1 : REAL(sendmmsg)(fd, messages, count, flags);
}

ssize_t write(int fd, const void *bytes, size_t length) {
  return is_tun(fd) && fails(WRITE) ? -1 : REAL(write)(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *vectors, int count) {
  return is_tun(fd) && fails(WRITE) ? -1 : REAL(writev)(fd, vectors, count);
}

int poll(struct pollfd *entries, nfds_t count, int timeout) {
  __atomic_add_fetch(&calls[POLL].made, 1, __ATOMIC_SEQ_CST);
  return REAL(poll)(entries, count, timeout);
}
