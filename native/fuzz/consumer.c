/* SPDX-License-Identifier: Apache-2.0 */
#include "consumer.h"

static void *larger(void *array, size_t n, size_t *room, size_t element_bytes)
{
	if (n < *room)
		return array;
	*room = *room ? 2 * *room : 64;
	array = realloc(array, *room * element_bytes);
	CHECK(array, "out of memory");
	return array;
}

static void add_place(struct consumer *c, const struct row *row)
{
	struct place *last = c->n_places ? &c->places[c->n_places - 1] : NULL;

	if (c->merges && last && last->position + last->bytes == row->position) {
		last->bytes += row->bytes;
		return;
	}
	c->places = larger(c->places, c->n_places, &c->room, sizeof(*c->places));
	c->places[c->n_places++] = (struct place){row->position, row->bytes};
}

void consumer_take(struct consumer *c, struct ArrowArray *batch)
{
	CHECK(batch->length > 0, "an empty batch");
	for (int64_t i = 0; i < batch->length; i++) {
		struct row row = row_at(batch, c->views, i);

		CHECK(row.connection == 1, "connection %u", row.connection);
		CHECK(row.position <= c->bytes && row.bytes <= c->bytes - row.position,
		      "a row at %llu of %u bytes, %zu were sent", (unsigned long long)row.position,
		      row.bytes, c->bytes);
		CHECK(!memcmp(row.data, c->stream + row.position, row.bytes),
		      "the bytes of the row at %llu", (unsigned long long)row.position);
		add_place(c, &row);
	}
	c->rows += (uint64_t)batch->length;
	if (!c->keeps) {
		batch->release(batch);
		return;
	}
	c->held = larger(c->held, c->n_held, &c->held_room, sizeof(*c->held));
	c->held[c->n_held++] = (struct held){*batch, batch_hash(batch, c->views)};
}

bool consumer_release(struct consumer *c)
{
	bool any = c->n_held > 0;

	while (c->n_held) {
		struct held *held = &c->held[--c->n_held];

		CHECK(batch_hash(&held->array, c->views) == held->hash, "a held batch has changed");
		held->array.release(&held->array);
	}
	return any;
}

void consumers_agree(const struct consumer *one, const struct consumer *other, const char *name)
{
	CHECK(one->code == other->code, "%s: \"%s\" (%d), unsplit: \"%s\" (%d)", name,
	      other->detail, other->code, one->detail, one->code);
	CHECK(!strcmp(one->detail, other->detail), "%s: \"%s\", unsplit: \"%s\"", name,
	      other->detail, one->detail);
	for (size_t i = 0; i < one->n_places && i < other->n_places; i++)
		CHECK(!memcmp(&one->places[i], &other->places[i], sizeof(one->places[i])),
		      "%s: row %zu at %llu has %llu bytes, unsplit: at %llu, %llu", name, i,
		      (unsigned long long)other->places[i].position,
		      (unsigned long long)other->places[i].bytes,
		      (unsigned long long)one->places[i].position,
		      (unsigned long long)one->places[i].bytes);
	CHECK(one->n_places == other->n_places, "%s: %zu rows, unsplit: %zu", name, other->n_places,
	      one->n_places);
	CHECK(one->code || one->partial == other->partial, "%s: %u partial bytes, unsplit: %u",
	      name, other->partial, one->partial);
}

void consumer_fini(struct consumer *c)
{
	consumer_release(c);
	free(c->places);
	free(c->held);
}
