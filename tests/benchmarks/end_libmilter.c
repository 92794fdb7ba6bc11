/*
 * The filter of the end-to-end benchmark on libmilter, in C: end_libmilter SOCKET
 *
 * It counts header fields and bytes of body; a message that has not so many as it should is
 * refused, and one that has gets one header field added and one changed.
 */
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADERS 20
#define BODY 10000

struct counts {
    size_t headers, body;
};

static sfsistat connected(SMFICTX *ctx, char *name, _SOCK_ADDR *address) {
    (void)name, (void)address;
    smfi_setpriv(ctx, calloc(1, sizeof(struct counts)));
    return SMFIS_CONTINUE;
}

static sfsistat said(SMFICTX *ctx, char *name) {
    (void)ctx, (void)name;
    return SMFIS_CONTINUE;
}

static sfsistat sender(SMFICTX *ctx, char **arguments) {
    (void)arguments;
    memset(smfi_getpriv(ctx), 0, sizeof(struct counts));
    return SMFIS_CONTINUE;
}

static sfsistat recipient(SMFICTX *ctx, char **arguments) {
    (void)ctx, (void)arguments;
    return SMFIS_CONTINUE;
}

static sfsistat data(SMFICTX *ctx) {
    (void)ctx;
    return SMFIS_CONTINUE;
}

static sfsistat header(SMFICTX *ctx, char *name, char *value) {
    (void)name, (void)value;
    ((struct counts *)smfi_getpriv(ctx))->headers++;
    return SMFIS_CONTINUE;
}

static sfsistat body(SMFICTX *ctx, unsigned char *bytes, size_t size) {
    (void)bytes;
    ((struct counts *)smfi_getpriv(ctx))->body += size;
    return SMFIS_CONTINUE;
}

static sfsistat end_of_message(SMFICTX *ctx) {
    struct counts *counts = smfi_getpriv(ctx);
    if (counts->headers != HEADERS || counts->body != BODY)
        return SMFIS_REJECT;
    smfi_addheader(ctx, "X-Scanned", "by the benchmark");
    smfi_chgheader(ctx, "Subject", 1, "[checked] How cost grows");
    return SMFIS_CONTINUE;
}

static sfsistat closed(SMFICTX *ctx) {
    free(smfi_getpriv(ctx));
    smfi_setpriv(ctx, NULL);
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv) {
    struct smfiDesc filter = {
        .xxfi_name = "end_libmilter",
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = SMFIF_ADDHDRS | SMFIF_CHGHDRS,
        .xxfi_connect = connected,
        .xxfi_helo = said,
        .xxfi_envfrom = sender,
        .xxfi_envrcpt = recipient,
        .xxfi_data = data,
        .xxfi_header = header,
        .xxfi_eoh = data,
        .xxfi_body = body,
        .xxfi_eom = end_of_message,
        .xxfi_close = closed,
    };
    char where[256];
    if (argc != 2)
        return 2;
    snprintf(where, sizeof where, "unix:%s", argv[1]);
    if (smfi_setconn(where) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS ||
        smfi_opensocket(0) != MI_SUCCESS)
        return 1;
    puts("listening");
    fflush(stdout);
    return smfi_main();
}
