/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay_corpus.c - stands where libFuzzer stands otherwise: runs a target once on each file of
 * folders. replay_corpus FOLDER|FILE...
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "input.h"

static uint32_t done;

static void replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data;
	long size;

	CHECK(file, "%s: %s", path, strerror(errno));
	CHECK(!fseek(file, 0, SEEK_END) && (size = ftell(file)) >= 0 && !fseek(file, 0, SEEK_SET),
	      "%s", path);
	data = malloc((size_t)size); /* exactly, so that reading on is noticed */
	CHECK(!size || (data && fread(data, (size_t)size, 1, file) == 1), "%s", path);
	(void)fclose(file);
	/* Before it runs, for the case that it does not come back. */
	printf("%s\n", path);
	(void)fflush(stdout);
	LLVMFuzzerTestOneInput(data, (size_t)size);
	free(data);
	done++;
}

static void replay(const char *path)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort);

	if (n < 0) {
		replay_file(path);
		return;
	}
	for (int i = 0; i < n; i++) {
		char full[4096];

		(void)snprintf(full, sizeof(full), "%s/%s", path, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.')
			replay_file(full);
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%u inputs\n", done);
	return done ? 0 : 1;
}
