/*
 * files.c
 *		Files and directories.
 *
 * What is written is on disk when these return.  Failure ends the program: a
 * repeated run goes on where it stood.
 */
#include "rejoin.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/file_utils.h"

static void
cannot(const char *what, const char *path)
{
	refuse(REJOIN_FAILED, psprintf("could not %s \"%s\": %m", what, path),
		   NULL, NULL);
}

bool
file_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

bool
is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *
read_whole_file(const char *path, size_t *size)
{
	int			fd = open(path, O_RDONLY | PG_BINARY, 0);
	struct stat st;
	char	   *data;
	size_t		got = 0;
	ssize_t		n = 0;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) != 0)
		st.st_size = 0;
	data = pg_malloc(st.st_size + 1);
	while (got < (size_t) st.st_size &&
		   (n = read(fd, data + got, st.st_size - got)) > 0)
		got += n;
	close(fd);
	if (n < 0)
	{
		pg_free(data);
		return NULL;
	}
	data[got] = '\0';
	if (size != NULL)
		*size = got;
	return data;
}

static void
write_all(int fd, const char *path, const char *data, size_t size)
{
	while (size > 0)
	{
		ssize_t		n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENOSPC;
		if (n <= 0)
			cannot("write file", path);
		data += n;
		size -= n;
	}
}

void
write_whole_file(const char *path, const char *data, size_t size)
{
	char	   *fresh = psprintf("%s.rejoin.tmp", path);
	int			fd = open(fresh, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY,
						  pg_file_create_mode);

	if (fd < 0)
		cannot("create file", fresh);
	write_all(fd, fresh, data, size);
	if (fsync(fd) != 0 || close(fd) != 0)
		cannot("flush file", fresh);
	if (durable_rename(fresh, path) != 0)
		refuse(REJOIN_FAILED, psprintf("could not write file \"%s\"", path),
			   NULL, NULL);
	pg_free(fresh);
}

/* A plain file with its permissions: it may be a private key. */
static void
copy_file(const char *from, const char *to)
{
	char	   *fresh = psprintf("%s.rejoin.tmp", to);
	int			in = open(from, O_RDONLY | PG_BINARY, 0);
	struct stat st;
	int			out;
	char	   *buffer;
	ssize_t		n;

	if (in < 0 || fstat(in, &st) != 0)
		cannot("read file", from);
	unlink(fresh);
	out = open(fresh, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY, S_IRUSR | S_IWUSR);
	if (out < 0)
		cannot("create file", fresh);
	buffer = pg_malloc(1024 * 1024);
	while ((n = read(in, buffer, 1024 * 1024)) > 0)
		write_all(out, fresh, buffer, n);
	if (n < 0)
		cannot("read file", from);
	if (fchmod(out, st.st_mode & 07777) != 0 || fsync(out) != 0 ||
		close(out) != 0)
		cannot("flush file", fresh);
	close(in);
	if (durable_rename(fresh, to) != 0)
		refuse(REJOIN_FAILED, psprintf("could not write file \"%s\"", to),
			   NULL, NULL);
	pg_free(buffer);
	pg_free(fresh);
}

void
copy_file_once(const char *from, const char *to, bool anew)
{
	struct stat source;
	struct stat there;

	if (!anew && stat(from, &source) == 0 && stat(to, &there) == 0 &&
		source.st_size == there.st_size)
		return;
	copy_file(from, to);
}

static void
copy_link(const char *from, const char *to)
{
	char		target[MAXPGPATH];
	ssize_t		n = readlink(from, target, sizeof(target) - 1);

	if (n < 0)
		cannot("read symbolic link", from);
	target[n] = '\0';
	remove_tree(to);
	if (symlink(target, to) != 0)
		cannot("create symbolic link", to);
	fsync_parent_path(to);
}

typedef struct CopyTarget
{
	const char *from;
	const char *to;
} CopyTarget;

static void
copy_entry(const char *name, void *arg)
{
	const CopyTarget *target = arg;
	char	   *from = psprintf("%s/%s", target->from, name);
	char	   *to = psprintf("%s/%s", target->to, name);

	copy_tree(from, to);
	pg_free(from);
	pg_free(to);
}

void
copy_tree(const char *from, const char *to)
{
	struct stat st;

	if (lstat(from, &st) != 0)
		cannot("read", from);
	if (S_ISLNK(st.st_mode))
		copy_link(from, to);
	else if (S_ISREG(st.st_mode))
		copy_file(from, to);
	else if (S_ISDIR(st.st_mode))
	{
		CopyTarget	target = {from, to};

		make_directory(to);
		each_entry(from, copy_entry, &target);
		if (chmod(to, st.st_mode & 07777) != 0)
			cannot("set permissions of directory", to);
		fsync_fname(to, true);
	}
	/* sockets and pipes are nobody's configuration */
}

bool
can_be_made(const char *path)
{
	char	   *at = pg_strdup(path);
	bool		can;

	while (!is_directory(at) && strcmp(at, parent_of(at)) != 0)
		at = parent_of(at);
	can = access(at, W_OK | X_OK) == 0;
	pg_free(at);
	return can;
}

void
make_directory(const char *path)
{
	if (is_directory(path))
		return;
	if (mkdir(path, pg_dir_create_mode) != 0)
		cannot("create directory", path);
	fsync_parent_path(path);
}

void
make_directories(const char *path)
{
	char	   *parent;

	if (is_directory(path))
		return;
	parent = parent_of(path);
	if (strcmp(parent, path) != 0)
		make_directories(parent);
	pg_free(parent);
	make_directory(path);
}

static void
remove_entry(const char *name, void *arg)
{
	char	   *path = psprintf("%s/%s", (const char *) arg, name);

	remove_tree(path);
	pg_free(path);
}

void
remove_tree(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
	{
		if (errno == ENOENT)
			return;
		cannot("remove", path);
	}
	if (S_ISDIR(st.st_mode))
	{
		each_entry(path, remove_entry, unconstify(char *, path));
		if (rmdir(path) != 0)
			cannot("remove directory", path);
	}
	else if (unlink(path) != 0)
		cannot("remove file", path);
}

/* Names first, since "each" may remove them. */
void
each_entry(const char *directory, void (*each) (const char *name, void *arg),
		   void *arg)
{
	DIR		   *dir = opendir(directory);
	struct dirent *entry;
	char	  **names = NULL;
	int			n = 0;

	if (dir == NULL)
	{
		if (errno == ENOENT)
			return;
		cannot("open directory", directory);
	}
	while (errno = 0, (entry = readdir(dir)) != NULL)
	{
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (n % 64 == 0)
			names = pg_realloc(names, (n + 64) * sizeof(char *));
		names[n++] = pg_strdup(entry->d_name);
	}
	if (errno != 0)
		cannot("read directory", directory);
	closedir(dir);
	for (int i = 0; i < n; i++)
	{
		each(names[i], arg);
		pg_free(names[i]);
	}
	pg_free(names);
}

char *
parent_of(const char *path)
{
	char	   *parent = pg_strdup(path);

	get_parent_directory(parent);
	if (parent[0] == '\0')
		strcpy(parent, path[0] == '/' ? "/" : ".");
	return parent;
}

const char *
name_of(const char *path)
{
	return last_dir_separator(path) ? last_dir_separator(path) + 1 : path;
}
