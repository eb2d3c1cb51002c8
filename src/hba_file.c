/*
 * hba_file.c
 *		One more line in pg_hba.conf.
 *
 * The new version is written beside the file and looked at there; only then it
 * takes the file's place, with the same owner and mode.  So at no moment the server
 * finds half a file, or one with an error.
 *
 * Called by the worker that repairs.  What goes wrong is raised as an ERROR, and the
 * file stays as it was.  Must never be called by two processes at a time.
 */
#include "postgres.h"

#include "compat.h"

#include <fcntl.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "libpq/libpq.h"
#include "storage/fd.h"

#include "hba.h"

#define DRAFT_SUFFIX	".leasehold.tmp"
#define BACKUP_SUFFIX	".leasehold"

/* ------------------------------------------------------------------------
 * Files
 * ------------------------------------------------------------------------
 */

static void
fail(const char *what, const char *file)
{
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not %s file \"%s\": %m", what, file)));
}

static char *
read_whole(const char *file, struct stat *st)
{
	int			fd = OpenTransientFile(file, O_RDONLY | PG_BINARY);
	char	   *text;

	if (fd < 0 || fstat(fd, st) != 0)
		fail("open", file);
	if (!S_ISREG(st->st_mode))
		ereport(ERROR,
				(errmsg("\"%s\" is not a regular file", file)));
	text = palloc(st->st_size + 1);
	if (read(fd, text, st->st_size) != st->st_size)
		fail("read", file);
	text[st->st_size] = '\0';
	if (strlen(text) != st->st_size)
		ereport(ERROR,
				(errmsg("file \"%s\" is not a text file", file)));
	CloseTransientFile(fd);
	return text;
}

/* A file of ours, nobody else's before it has the owner and mode that it should. */
static void
write_new(const char *file, const char *text, const struct stat *like)
{
	struct stat st;
	int			fd;

	if (unlink(file) != 0 && errno != ENOENT)
		fail("remove", file);
	fd = OpenTransientFilePerm(file, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY, 0600);
	if (fd < 0 || fstat(fd, &st) != 0)
		fail("create", file);
	if ((st.st_uid != like->st_uid || st.st_gid != like->st_gid) &&
		fchown(fd, like->st_uid, like->st_gid) != 0)
		fail("keep the owner of", file);
	if (fchmod(fd, like->st_mode & 07777) != 0)
		fail("keep the mode of", file);
	errno = 0;
	if (write(fd, text, strlen(text)) != strlen(text))
	{
		if (errno == 0)
			errno = ENOSPC;
		fail("write", file);
	}
	if (pg_fsync(fd) != 0 || CloseTransientFile(fd) != 0)
		fail("write", file);
}

/* ------------------------------------------------------------------------
 * The line
 * ------------------------------------------------------------------------
 */

/* A line that ends with a backslash goes on in the next, whatever ends the line. */
static void
end_last_line(StringInfo text)
{
	int			length;

	if (text->len > 0 && text->data[text->len - 1] != '\n')
		appendStringInfoChar(text, '\n');
	for (length = text->len; length > 0 && strchr("\r\n", text->data[length - 1]); length--)
		;
	if (length > 0 && text->data[length - 1] == '\\')
		appendStringInfoChar(text, '\n');
}

static int
count_lines(const char *text)
{
	int			n = 0;

	while ((text = strchr(text, '\n')) != NULL)
	{
		text++;
		n++;
	}
	return n;
}

/* ------------------------------------------------------------------------
 * The draft
 * ------------------------------------------------------------------------
 */

void
hba_draft(HbaDraft *draft, const char *line)
{
	StringInfoData text;
	char	   *file = realpath(HbaFileName, NULL);

	if (file == NULL)
		fail("find", HbaFileName);
	snprintf(draft->file, sizeof(draft->file), "%s", file);
	free(file);
	if (snprintf(draft->draft, sizeof(draft->draft), "%s%s", draft->file,
				 DRAFT_SUFFIX) >= sizeof(draft->draft))
		ereport(ERROR, (errmsg("the name of file \"%s\" is too long", draft->file)));
	draft->text = read_whole(draft->file, &draft->st);

	initStringInfo(&text);
	appendStringInfoString(&text, draft->text);
	end_last_line(&text);
	draft->line = count_lines(text.data) + 1;
	appendStringInfo(&text, "%s\n", line);
	write_new(draft->draft, text.data, &draft->st);
}

/* The view reads what the setting of this process names. */
void
hba_look_at_draft(const HbaDraft *draft, void (*each) (void *arg), void *arg)
{
	char	   *kept = HbaFileName;

	PG_TRY();
	{
		HbaFileName = pstrdup(draft->draft);
		each(arg);
	}
	PG_FINALLY();
	{
		HbaFileName = kept;
	}
	PG_END_TRY();
}

/* People may be editing it, too. */
static void
check_unchanged(const HbaDraft *draft)
{
	struct stat st;

	if (stat(draft->file, &st) != 0)
		fail("find", draft->file);
	if (st.st_ino != draft->st.st_ino || st.st_size != draft->st.st_size ||
		st.st_mtim.tv_sec != draft->st.st_mtim.tv_sec ||
		st.st_mtim.tv_nsec != draft->st.st_mtim.tv_nsec)
		ereport(ERROR,
				(errmsg("file \"%s\" was changed meanwhile", draft->file)));
}

void
hba_install(const HbaDraft *draft)
{
	char	   *backup = psprintf("%s%s", draft->file, BACKUP_SUFFIX);
	char	   *kept = psprintf("%s%s", backup, DRAFT_SUFFIX);

	write_new(kept, draft->text, &draft->st);
	(void) durable_rename(kept, backup, ERROR);
	check_unchanged(draft);
	(void) durable_rename(draft->draft, draft->file, ERROR);
}

void
hba_forget(const HbaDraft *draft)
{
	(void) unlink(draft->draft);
}
