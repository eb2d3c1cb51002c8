/*
 * cause_words.c
 *		What PostgreSQL's servers say in the languages that they speak.
 *
 * From the message catalogs of PostgreSQL 15 to 18.  A language that is missing
 * here, or that comes in another encoding than UTF-8, is taken for the commoner
 * one of two causes.  Must never do I/O or depend on the server.
 */
#include "cause_words.h"

#include <stddef.h>
#include <string.h>

#define HBA_FILE	"pg_hba.conf"

static const char *const no_login[] = {
	"is not permitted to log in",
	"hat keine Berechtigung zum Einloggen",
	"no se le permite conectarse",
	"n'est pas autorisé à se connecter",
	"tidak diperbolehkan untuk log in",
	"non è consentito effettuare il login",
	"はログインが許可されません",
	"შესვლის უფლება არ აქვს",
	"롤은 접속을 허용하지 않음",
	"nie zezwala na logowanie",
	"não tem permissão para entrar",
	"вход запрещён",
	"tillåts inte logga in",
	"sisteme giriş hakkı yoktur",
	"вхід не дозволений",
	"进行登录",
	NULL
};

static const char *const stopping[] = {
	"is shutting down",
	"fährt herunter",
	"está apagándose",
	"s'arrête",
	"sistem database dimatikan",
	"si sta spegnendo",
	"シャットダウンしています",
	"სისტემა ითიშება",
	"중지 중입니다",
	"jest zamykany",
	"está desligando",
	"останавливается",
	"stänger ner",
	"kapatılıyor",
	"завершує роботу",
	"停止中",
	NULL
};

static const char *const no_standby_sessions[] = {
	"system is not accepting connections",
	"nimmt keine Verbindungen an",
	"datos no está aceptando conexiones",
	"n'accepte pas de connexions",
	"non accetta connessioni",
	"システムは接続を受け付けていません",
	"სისტემა მიერთებებს არ იღებს",
	"시스템은 접속을 허용하지 않습니다",
	"dados não está aceitando conexões",
	"БД не принимает подключения",
	"tar inte emot anslutningar",
	"даних не приймає підключення",
	NULL
};

static bool
has_any(const char *message, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strstr(message, *words) != NULL)
			return true;
	return false;
}

bool
words_no_login(const char *message)
{
	return has_any(message, no_login);
}

bool
words_hba(const char *message)
{
	return strstr(message, HBA_FILE) != NULL;
}

/*
 * In nearly all languages the file does it, so its name stands first; and only
 * then.  But Korean names it later, and Japanese says "in pg_hba.conf", too.
 */
bool
words_hba_rejects(const char *message)
{
	static const char begin[] = HBA_FILE " ";

	if (strstr(message, HBA_FILE " 파일 설정에 따라 거부됩니다") != NULL)
		return true;
	return strncmp(message, begin, sizeof(begin) - 1) == 0 &&
		strncmp(message + sizeof(begin) - 1, "に", strlen("に")) != 0;
}

bool
words_stopping(const char *message)
{
	return has_any(message, stopping);
}

bool
words_no_standby_sessions(const char *message)
{
	return has_any(message, no_standby_sessions);
}

/*
 * Parsing fails before anything is tried, so these do not have the words with which
 * libpq begins to speak of an attempt.
 */
bool
words_bad_address(const char *message)
{
	static const char *const anywhere[] = {
		"connection info string", "connection option", "invalid connection ",
		" URI", "percent-encoded", "unexpected spaces found", "invalid port number",
		"invalid integer value", "could not match ", "could not parse network address",
		"is too long (maximum", "definition of service", "service file ",
		NULL
	};

	if (has_any(message, anywhere))
		return true;
	return (strncmp(message, "invalid ", 8) == 0 &&
			strstr(message, " value: ") != NULL) ||
		strncmp(message, "invalid \"", 9) == 0;
}
