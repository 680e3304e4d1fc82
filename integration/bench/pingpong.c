/* pingpong serve PORT | pingpong ADDRESS PORT ROUNDS: a byte there and back over TCP; prints the mean microseconds of a round trip. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void quick(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int main(int argc, char **argv) {
    char byte = 'x';
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[2]))};
        int on = 1, listener = socket(AF_INET6, SOCK_STREAM, 0);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 8)) return perror("listen"), 1;
        for (;;) {
            int fd = accept(listener, NULL, NULL);
            quick(fd);
            while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1) {}
            close(fd);
        }
    }
    if (argc != 4) return fprintf(stderr, "see the first line of the source\n"), 2;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *to;
    if (getaddrinfo(argv[1], argv[2], &hints, &to)) return fprintf(stderr, "bad address\n"), 1;
    int fd = socket(to->ai_family, SOCK_STREAM, 0), rounds = atoi(argv[3]);
    quick(fd);
    if (connect(fd, to->ai_addr, to->ai_addrlen)) return perror("connect"), 1;
    struct timespec from, until;
    for (int i = -100; i < rounds; i++) {
        if (i == 0) clock_gettime(CLOCK_MONOTONIC, &from);
        if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) return perror("round"), 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    printf("%.3f\n", ((until.tv_sec - from.tv_sec) * 1e6 + (until.tv_nsec - from.tv_nsec) / 1e3) / rounds);
    return 0;
}
