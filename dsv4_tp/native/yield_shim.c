/* Loaded into workers with LD_PRELOAD on Linux: a recv() that gives its core away when there is
 * nothing to read.
 *
 * MLX's ring backend has two socket threads per rank that call recv() on non-blocking sockets in a
 * tight loop. With more ranks than cores they take the time of the rank that has work to do.
 * recv() is recvfrom() without an address, so the real one needs no looking up.
 */
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

ssize_t recv(int socket, void *buffer, size_t length, int flags) {
    ssize_t received = recvfrom(socket, buffer, length, flags, NULL, NULL);
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        sched_yield();
        errno = EAGAIN; /* sched_yield may set it */
    }
    return received;
}
