/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema.c - Source: Arrow C data interface, "Data type description -- format strings" and
 * "ArrowSchema.metadata" (native-endian int32 counts and lengths).
 */
#include "schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_COLUMNS 5

struct exported {
	struct ArrowSchema columns[MAX_COLUMNS];
	struct ArrowSchema *pointers[MAX_COLUMNS];
	char metadata[512];
};

static void release_column(struct ArrowSchema *schema)
{
	schema->release = NULL; /* its strings are static, its memory is the root's */
}

static void release_root(struct ArrowSchema *schema)
{
	for (int64_t i = 0; i < schema->n_children; i++)
		if (schema->children[i]->release)
			schema->children[i]->release(schema->children[i]);
	free(schema->private_data);
	schema->release = NULL;
}

static void add_column(struct ArrowSchema *root, const char *name, const char *format,
		       int64_t flags)
{
	struct exported *exported = root->private_data;
	int64_t at = root->n_children++;

	exported->columns[at] = (struct ArrowSchema){
		.format = format, .name = name, .flags = flags, .release = release_column};
	exported->pointers[at] = &exported->columns[at];
}

static char *put_int(char *at, size_t value)
{
	int32_t number = (int32_t)value;

	memcpy(at, &number, sizeof(number));
	return at + sizeof(number);
}

static char *put_text(char *at, const char *text)
{
	at = put_int(at, strlen(text));
	memcpy(at, text, strlen(text));
	return at + strlen(text);
}

int za_schema_export(const struct za_config *config, const char *framing, const char *transport,
		     struct ArrowSchema *out)
{
	static const char *const payload_formats[] = {"vz", "vu", "Z", "U"};
	struct exported *exported = calloc(1, sizeof(*exported));
	struct ArrowSchema root;
	char *at;

	if (!exported)
		return -ENOMEM;
	root = (struct ArrowSchema){
		.format = "+s",
		.name = "",
		.metadata = exported->metadata,
		.children = exported->pointers,
		.release = release_root,
		.private_data = exported,
	};
	add_column(&root, "payload", payload_formats[config->payload], 0);
	add_column(&root, "connection", "I", 0);
	add_column(&root, "position", "L", 0);
	add_column(&root, "received_at", "tsn:UTC", 0);
	if (config->framing.kind == ZA_FRAMING_RAW)
		add_column(&root, "area_offset", "L", ARROW_FLAG_NULLABLE);
	at = put_int(exported->metadata, 2);
	at = put_text(at, "zcrx_arrow.framing");
	at = put_text(at, framing);
	at = put_text(at, "zcrx_arrow.transport");
	(void)put_text(at, transport);
	*out = root;
	return 0;
}
