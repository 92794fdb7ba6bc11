/*
 * Plays the MTA to a milter: one session over each of several connections at once, in lock-step.
 *
 *     end_load SOCKET CONNECTIONS MESSAGES [echo] < SCRIPT
 *
 * SCRIPT: what an MTA says in a session with one message, frame by frame up to QUIT, and then what
 * the filter has to answer to the end of the message; from MAIL to ABORT it is said MESSAGES times
 * on each connection. Macros go with their command in one write, as Postfix sends them. What the
 * filter does not want is left out, but for its macros; what it does not answer is not waited for,
 * and goes with what follows. Any answer but the right one ends the program, and so does a minute.
 *
 * With "echo" a loop that only reads and writes is at the other end: it answers each write with
 * one CONTINUE, negotiates nothing, and hears no QUIT, nor the ABORT before it.
 *
 * Output: messages, and seconds from the first connect() to the last answer.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_SCRIPT (1 << 20)
#define MAX_STEPS 256
#define MAX_ANSWER 1024

/* A frame, and the macros before it; they stand one after the other. */
struct step {
    const uint8_t *macros, *frame, *end;
    uint8_t code;
};

struct connection {
    int fd;
    long messages;        /* still to be said */
    size_t at;            /* the step that waits for its answer */
    uint32_t negotiated;  /* the bits of what the filter does not want, and does not answer */
    size_t got;
    uint8_t answer[MAX_ANSWER];
};

/* Those of SMFIC_OPTNEG, by command: SMFIP_NO... and SMFIP_NR_... of libmilter's mfdef.h. */
static const struct {
    uint32_t unwanted, unanswered;
} bits[256] = {
    ['C'] = {0x001, 0x01000}, ['H'] = {0x002, 0x02000}, ['M'] = {0x004, 0x04000},
    ['R'] = {0x008, 0x08000}, ['T'] = {0x200, 0x10000}, ['L'] = {0x020, 0x00080},
    ['N'] = {0x040, 0x40000}, ['B'] = {0x010, 0x80000},
};

static const uint8_t go_on[] = {0, 0, 0, 1, 'c'};

static uint8_t script[MAX_SCRIPT];
static struct step steps[MAX_STEPS];
static size_t first, last; /* of the steps of a message: MAIL and ABORT */
static const uint8_t *verdict;
static size_t verdict_size;
static int echo;

static void die(const char *why) {
    perror(why);
    exit(1);
}

static uint32_t number(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void read_script(void) {
    size_t size = fread(script, 1, sizeof script, stdin), count = 0;
    const uint8_t *at = script, *macros = script;
    for (;;) {
        const uint8_t *end = at + 4 + number(at);
        if (end > script + size || count == MAX_STEPS) {
            fprintf(stderr, "end_load: a script without end\n");
            exit(1);
        }
        if (at[4] != 'D') {
            steps[count++] = (struct step){macros, at, end, at[4]};
            macros = end;
            if (at[4] == 'M')
                first = count - 1;
            if (at[4] == 'A')
                last = count - 1;
            if (at[4] == 'Q')
                break;
        }
        at = end;
    }
    verdict = macros;
    verdict_size = (size_t)(script + size - macros);
}

/* Say all up to the next step that is answered; 0 at the session's end. */
static int go(struct connection *it) {
    static uint8_t output[MAX_SCRIPT];
    size_t size = 0;
    const struct step *step;
    int waits = 0;
    do {
        const uint8_t *end;
        step = &steps[it->at];
        if (step->code == 'Q' && echo)
            return 0; /* and ABORT, which is not answered, is not said either */
        end = it->negotiated & bits[step->code].unwanted ? step->frame : step->end;
        memcpy(output + size, step->macros, (size_t)(end - step->macros));
        size += (size_t)(end - step->macros);
        waits = end == step->end && step->code != 'A' && step->code != 'Q' &&
                !(it->negotiated & bits[step->code].unanswered);
        if (!waits)
            it->at = it->at == last && --it->messages > 0 ? first : it->at + 1;
    } while (!waits && step->code != 'Q');
    for (size_t done = 0; done < size;) {
        ssize_t sent = send(it->fd, output + done, size - done, MSG_NOSIGNAL);
        if (sent < 0)
            die("end_load: send");
        done += (size_t)sent;
    }
    return waits;
}

static void refuse(const struct connection *it) {
    fprintf(stderr, "end_load: a wrong answer to '%c', %zu bytes:", steps[it->at].code, it->got);
    for (size_t i = 0; i < it->got; i++)
        fprintf(stderr, " %02x", it->answer[i]);
    fprintf(stderr, "\n");
    exit(1);
}

/* Whether the answer is there, which has to be the right one. */
static int answered(struct connection *it) {
    uint8_t code = steps[it->at].code;
    const uint8_t *right = go_on;
    size_t size = sizeof go_on;
    ssize_t got = read(it->fd, it->answer + it->got, sizeof it->answer - it->got);
    if (got <= 0)
        die("end_load: read");
    it->got += (size_t)got;
    if (code == 'O' && !echo) {
        if (it->got < 4 || it->got < 4 + number(it->answer))
            return 0;
        if (it->got < 17 || it->got > 4 + number(it->answer) || it->answer[4] != 'O')
            refuse(it);
        it->negotiated = number(it->answer + 13);
    } else {
        if (code == 'E' && !echo) {
            right = verdict;
            size = verdict_size;
        }
        if (it->got > size || memcmp(it->answer, right, it->got) != 0)
            refuse(it);
        if (it->got < size)
            return 0;
    }
    it->got = 0;
    it->at++;
    return 1;
}

int main(int argc, char **argv) {
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    struct timespec start, end;
    struct connection *connections;
    struct epoll_event events[64];
    int poll = epoll_create1(0), count, open;
    long messages;
    if (argc < 4 || strlen(argv[1]) >= sizeof where.sun_path) {
        fprintf(stderr, "end_load SOCKET CONNECTIONS MESSAGES [echo] < SCRIPT\n");
        return 2;
    }
    strcpy(where.sun_path, argv[1]);
    count = open = atoi(argv[2]);
    messages = atol(argv[3]);
    echo = argc > 4;
    connections = calloc((size_t)count, sizeof *connections);
    read_script();
    alarm(60);

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < count; i++) {
        struct connection *it = &connections[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = it};
        it->messages = messages;
        it->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(it->fd, (struct sockaddr *)&where, sizeof where) != 0)
            die("end_load: connect");
        if (epoll_ctl(poll, EPOLL_CTL_ADD, it->fd, &event) != 0)
            die("end_load: epoll_ctl");
        go(it);
    }
    while (open > 0) {
        /* With a single connection, read() does the waiting. */
        int ready = count == 1 ? 1 : epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *it = count == 1 ? connections : events[i].data.ptr;
            if (answered(it) && !go(it)) {
                close(it->fd);
                open--;
            }
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%ld %.9f\n", count * messages,
           (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
    return 0;
}
