/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - the Arrow C stream over a source's queue.
 *
 * get_next is called from any thread, with or without a lock such as Python's GIL held; it waits
 * in steps that end at once on close, exit and SIGINT.
 * Source: Apache Arrow, "The Arrow C stream interface".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "../source.h"

struct stream {
	struct za_source *source; /* a share */
	uint32_t interrupts;      /* seen when it was made, or when they were last reported */
	struct za_error error;
	char text[sizeof(struct za_error)];
};

static int stream_error(struct stream *stream, int code)
{
	struct za_error *error = &stream->error;

	if (code == -EINTR)
		za_fail(error, code, "wait", "interrupted by a signal (Ctrl-C)");
	else if (code == -ENOBUFS)
		za_fail(error, code, "area",
			"the area is exhausted: every chunk is held by batches, and copy_out=\"never\" "
			"forbids copying; release batches, or use copy_out=\"auto\" or a larger area");
	else if (code == -EOWNERDEAD)
		za_fail(error, code, "fork",
			"this source belongs to the parent process; open one in the child");
	else
		za_source_error(stream->source, error);
	memcpy(stream->text, error->detail, sizeof(error->detail));
	return -code;
}

static int stream_next(struct ArrowArrayStream *self, struct ArrowArray *out)
{
	struct stream *stream = self->private_data;
	struct za_batch *batch;
	int code = -EOWNERDEAD;

	if (za_source_mine(stream->source))
		code = za_source_pull(stream->source, -1, stream->interrupts, &batch);
	if (code == -ENODATA) {
		memset(out, 0, sizeof(*out)); /* a released array: the end */
		return 0;
	}
	if (code) {
		stream->interrupts = za_process_interrupts();
		return stream_error(stream, code);
	}
	za_batch_export(batch, out);
	return 0;
}

static int stream_schema(struct ArrowArrayStream *self, struct ArrowSchema *out)
{
	struct stream *stream = self->private_data;

	return -za_source_schema(stream->source, out);
}

static const char *stream_last_error(struct ArrowArrayStream *self)
{
	struct stream *stream = self->private_data;

	return stream->text[0] ? stream->text : NULL;
}

static void stream_release(struct ArrowArrayStream *self)
{
	struct stream *stream = self->private_data;

	self->release = NULL;
	za_source_put(stream->source);
	free(stream);
}

int za_source_stream(struct za_source *source, struct ArrowArrayStream *out)
{
	struct stream *stream;

	if (!za_source_mine(source))
		return -EOWNERDEAD;
	stream = calloc(1, sizeof(*stream));
	if (!stream)
		return -ENOMEM;
	stream->source = za_source_take(source);
	stream->interrupts = za_process_interrupts();
	*out = (struct ArrowArrayStream){
		.get_schema = stream_schema,
		.get_next = stream_next,
		.get_last_error = stream_last_error,
		.release = stream_release,
		.private_data = stream,
	};
	return 0;
}
