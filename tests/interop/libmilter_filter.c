/*
 * A filter on the real libmilter that says what it was told, and does what a script says.
 *
 * Output: one line for each callback: its name, its arguments, "|", then name and value of each
 * chosen macro that is defined. All are in hexadecimal, so that any byte fits in a word; "-" is
 * the empty string. "failed ACTION |" is an action that libmilter refused.
 *
 * Script: lines on standard input, read before each callback acts. So whoever writes a line
 * there and then a frame to the socket knows that the line is in force for that frame.
 *     reset                      forget all rules
 *     on CALLBACK ACTION ARG...  rules of a callback run in their order; see perform()
 *     macros NAME...             the macros to log, as hexadecimal words
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmilter/mfapi.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_LINES 64
#define MAX_WORDS 64
#define NO_VERDICT (-1)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *rules[MAX_LINES];
static char *macros[MAX_LINES];
static size_t rule_count, macro_count;

static void die(const char *why) {
    fprintf(stderr, "libmilter_filter: %s\n", why);
    exit(1);
}

/* --- words ---------------------------------------------------------------------------- */

static void put(const void *data, size_t size) {
    const unsigned char *bytes = data;
    putchar(' ');
    if (size == 0)
        putchar('-');
    for (size_t i = 0; i < size; i++)
        printf("%02x", bytes[i]);
}

static void put_string(const char *text) { put(text, strlen(text)); }

static void put_number(unsigned long number) {
    char text[32];
    put(text, (size_t)snprintf(text, sizeof text, "%lu", number));
}

static size_t split(char *line, char *words[MAX_WORDS]) {
    size_t count = 0;
    char *rest;
    for (char *word = strtok_r(line, " ", &rest); word != NULL && count < MAX_WORDS;
         word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    return count;
}

/* What a word stands for: hexadecimal, "-" (no bytes), "~" (NULL) or "*N" (N bytes). */
static char *bytes_of(const char *word, size_t *size) {
    int counting = word[0] == '*';
    char *bytes;
    if (word[0] == '~')
        return NULL;
    *size = word[0] == '-' ? 0 : counting ? strtoul(word + 1, NULL, 10) : strlen(word) / 2;
    if ((bytes = calloc(*size + 1, 1)) == NULL)
        die("no memory");
    for (size_t i = 0; i < *size; i++) {
        if (counting) {
            bytes[i] = (char)(i % 251);
        } else {
            char digits[3] = {word[2 * i], word[2 * i + 1], '\0'};
            bytes[i] = (char)strtoul(digits, NULL, 16);
        }
    }
    return bytes;
}

/* --- the script ------------------------------------------------------------------------ */

static void forget(char **lines, size_t *count) {
    while (*count > 0)
        free(lines[--*count]);
}

static void obey(const char *line) {
    if (strcmp(line, "reset") == 0) {
        forget(rules, &rule_count);
    } else if (strncmp(line, "on ", 3) == 0 && rule_count < MAX_LINES) {
        rules[rule_count++] = strdup(line + 3);
    } else if (strncmp(line, "macros ", 7) == 0) {
        char *copy = strdup(line + 7), *words[MAX_WORDS];
        size_t count = split(copy, words), size;
        forget(macros, &macro_count);
        for (size_t i = 0; i < count; i++)
            macros[macro_count++] = bytes_of(words[i], &size);
        free(copy);
    } else {
        die("a line of the script that makes no sense");
    }
}

static void read_script(void) {
    static char buffer[1 << 17];
    static size_t used;
    ssize_t got;
    while ((got = read(STDIN_FILENO, buffer + used, sizeof buffer - used - 1)) > 0) {
        char *end;
        used += (size_t)got;
        while ((end = memchr(buffer, '\n', used)) != NULL) {
            size_t length = (size_t)(end - buffer) + 1;
            *end = '\0';
            obey(buffer);
            used -= length;
            memmove(buffer, buffer + length, used);
        }
    }
    if (got < 0 && errno != EAGAIN)
        die("standard input can't be read");
}

static int verdict(const char *action) {
    static const struct {
        const char *name;
        int value;
    } table[] = {
        {"continue", SMFIS_CONTINUE}, {"accept", SMFIS_ACCEPT},   {"reject", SMFIS_REJECT},
        {"tempfail", SMFIS_TEMPFAIL}, {"discard", SMFIS_DISCARD}, {"skip", SMFIS_SKIP},
        {"noreply", SMFIS_NOREPLY},   {"all", SMFIS_ALL_OPTS},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(action, table[i].name) == 0)
            return table[i].value;
    return NO_VERDICT;
}

/* One action that is no verdict. Missing arguments are NULL, as libmilter likes it. */
static int perform(SMFICTX *ctx, const char *action, char *a[36], size_t size) {
#define IS(name) (strcmp(action, name) == 0)
    if (IS("setreply"))
        return smfi_setreply(ctx, a[0], a[1], a[2]);
    if (IS("setmlreply"))
        return smfi_setmlreply(ctx, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9],
                               a[10], a[11], a[12], a[13], a[14], a[15], a[16], a[17], a[18],
                               a[19], a[20], a[21], a[22], a[23], a[24], a[25], a[26], a[27],
                               a[28], a[29], a[30], a[31], a[32], a[33], a[34], NULL);
    if (IS("addheader"))
        return smfi_addheader(ctx, a[0], a[1]);
    if (IS("insheader"))
        return smfi_insheader(ctx, atoi(a[0]), a[1], a[2]);
    if (IS("chgheader"))
        return smfi_chgheader(ctx, a[1], atoi(a[0]), a[2]);
    if (IS("replacebody"))
        return smfi_replacebody(ctx, (unsigned char *)a[0], (int)size);
    if (IS("addrcpt"))
        return smfi_addrcpt(ctx, a[0]);
    if (IS("addrcpt_par"))
        return smfi_addrcpt_par(ctx, a[0], a[1]);
    if (IS("delrcpt"))
        return smfi_delrcpt(ctx, a[0]);
    if (IS("chgfrom"))
        return smfi_chgfrom(ctx, a[0], a[1]);
    if (IS("quarantine"))
        return smfi_quarantine(ctx, a[0]);
    if (IS("progress"))
        return smfi_progress(ctx);
    if (IS("symlist"))
        return smfi_setsymlist(ctx, atoi(a[0]), a[1]);
#undef IS
    die("an action that does not exist");
    return MI_FAILURE;
}

/* What a negotiation asks for; "offer" in the script changes it. */
static unsigned long asked_actions, asked_steps;

/* Ends the line of a callback, and runs its rules; the last verdict counts. */
static sfsistat act(SMFICTX *ctx, const char *callback) {
    int result = SMFIS_CONTINUE;
    fputs(" |", stdout);
    for (size_t i = 0; i < macro_count; i++) {
        const char *value = smfi_getsymval(ctx, macros[i]);
        if (value != NULL) {
            put_string(macros[i]);
            put_string(value);
        }
    }
    putchar('\n');
    for (size_t i = 0; i < rule_count; i++) {
        char *copy = strdup(rules[i]), *words[MAX_WORDS], *args[36] = {NULL};
        size_t count = split(copy, words), size = 0;
        if (count >= 2 && strcmp(words[0], callback) == 0) {
            for (size_t j = 2; j < count && j < 38; j++)
                args[j - 2] = bytes_of(words[j], &size);
            if (verdict(words[1]) != NO_VERDICT) {
                result = verdict(words[1]);
            } else if (strcmp(words[1], "offer") == 0) {
                asked_actions = strtoul(args[0], NULL, 0);
                asked_steps = strtoul(args[1], NULL, 0);
            } else if (perform(ctx, words[1], args, size) != MI_SUCCESS) {
                printf("failed %s |\n", words[1]);
            }
            for (size_t j = 0; j < 36; j++)
                free(args[j]);
        }
        free(copy);
    }
    fflush(stdout);
    pthread_mutex_unlock(&lock);
    return result;
}

static void begin(const char *callback) {
    pthread_mutex_lock(&lock);
    read_script();
    fputs(callback, stdout);
}

/* --- the callbacks --------------------------------------------------------------------- */

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps,
                             unsigned long f2, unsigned long f3, unsigned long *want_actions,
                             unsigned long *want_steps, unsigned long *want2,
                             unsigned long *want3) {
    sfsistat result;
    (void)f2, (void)f3;
    begin("negotiate");
    put_number(actions);
    put_number(steps);
    asked_actions = actions;
    asked_steps = 0;
    result = act(ctx, "negotiate");
    *want_actions = asked_actions;
    *want_steps = asked_steps;
    *want2 = *want3 = 0;
    return result;
}

static sfsistat on_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *address) {
    char text[INET6_ADDRSTRLEN];
    begin("connect");
    put_string(host);
    if (address == NULL) {
        put_string("U");
    } else if (address->sa_family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)address;
        put_string("4");
        put_number(ntohs(in->sin_port));
        put_string(inet_ntop(AF_INET, &in->sin_addr, text, sizeof text));
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 *in = (struct sockaddr_in6 *)(void *)address;
        put_string("6");
        put_number(ntohs(in->sin6_port));
        put_string(inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text));
    } else {
        put_string("L");
        put_string(((struct sockaddr_un *)(void *)address)->sun_path);
    }
    return act(ctx, "connect");
}

static sfsistat with_strings(SMFICTX *ctx, const char *callback, char **strings) {
    begin(callback);
    for (; *strings != NULL; strings++)
        put_string(*strings);
    return act(ctx, callback);
}

static sfsistat on_helo(SMFICTX *ctx, char *name) {
    return with_strings(ctx, "helo", (char *[]){name, NULL});
}

static sfsistat on_mail(SMFICTX *ctx, char **args) { return with_strings(ctx, "mail", args); }

static sfsistat on_rcpt(SMFICTX *ctx, char **args) { return with_strings(ctx, "rcpt", args); }

static sfsistat on_header(SMFICTX *ctx, char *name, char *value) {
    return with_strings(ctx, "header", (char *[]){name, value, NULL});
}

static sfsistat on_unknown(SMFICTX *ctx, const char *command) {
    begin("unknown");
    put_string(command);
    return act(ctx, "unknown");
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *data, size_t size) {
    begin("body");
    put(data, size);
    return act(ctx, "body");
}

static sfsistat bare(SMFICTX *ctx, const char *callback) {
    begin(callback);
    return act(ctx, callback);
}

static sfsistat on_data(SMFICTX *ctx) { return bare(ctx, "data"); }
static sfsistat on_eoh(SMFICTX *ctx) { return bare(ctx, "eoh"); }
static sfsistat on_eom(SMFICTX *ctx) { return bare(ctx, "eom"); }
static sfsistat on_abort(SMFICTX *ctx) { return bare(ctx, "abort"); }
static sfsistat on_close(SMFICTX *ctx) { return bare(ctx, "close"); }

int main(int argc, char **argv) {
    struct smfiDesc filter = {
        .xxfi_name = (char *)"mailwire-interop",
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = 0x1ff,
        .xxfi_negotiate = on_negotiate,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_mail,
        .xxfi_envrcpt = on_rcpt,
        .xxfi_data = on_data,
        .xxfi_header = on_header,
        .xxfi_eoh = on_eoh,
        .xxfi_body = on_body,
        .xxfi_eom = on_eom,
        .xxfi_abort = on_abort,
        .xxfi_close = on_close,
        .xxfi_unknown = on_unknown,
    };
    if (argc != 3 || strcmp(argv[1], "-p") != 0)
        die("usage: libmilter_filter -p SOCKET");
    if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) < 0)
        die("standard input can't be made non-blocking");
    if (smfi_setconn(argv[2]) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS)
        die("libmilter does not take the socket or the filter");
    if (smfi_opensocket(1) != MI_SUCCESS)
        die("libmilter can't open the socket");
    /* From here on a connect() to the socket succeeds. */
    puts("ready |");
    fflush(stdout);
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
