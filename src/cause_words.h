/*
 * cause_words.h
 *		What PostgreSQL's servers say in the languages that they speak, where two
 *		causes have SQLSTATE and routine in common and only the words differ.  And
 *		what libpq says, in English, which has no codes.
 *
 * Layer 0: no server headers, no I/O.
 */
#ifndef LEASEHOLD_CAUSE_WORDS_H
#define LEASEHOLD_CAUSE_WORDS_H

#include <stdbool.h>

/* 28000 of InitializeSessionUserId: the role may not log in (else: there is none). */
extern bool words_no_login(const char *message);

/* 28000 of ClientAuthentication: about pg_hba.conf (else: about a certificate). */
extern bool words_hba(const char *message);

/* ... and a line of it says reject (else: none is about us). */
extern bool words_hba_rejects(const char *message);

/* 57P03: the server is shutting down (else: starting). */
extern bool words_stopping(const char *message);

/* 57P03: a standby that takes no connections (else: not yet). */
extern bool words_no_standby_sessions(const char *message);

/* Libpq's own: the connection string is none. */
extern bool words_bad_address(const char *message);

#endif							/* LEASEHOLD_CAUSE_WORDS_H */
