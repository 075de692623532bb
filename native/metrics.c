/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - what is counted beside an area, and what becomes of its chunks, as za.h shows it. */
#include "rx/area.h"

void za_area_metrics(struct za_area *area, struct za_metrics *out)
{
	const struct za_stats *s = &area->stats;
	struct za_refill_level level = za_refill_level(&area->refill, area);

	*out = (struct za_metrics){
		.bytes = za_read(&s->bytes),
		.fragments = za_read(&s->fragments),
		.rows = za_read(&s->rows),
		.batches = za_read(&s->batches),
		.seams = za_read(&s->seams),
		.stitched_bytes = za_read(&s->stitched_bytes),
		.copied_out_bytes = za_read(&s->copied_out_bytes),
		.copied_out_batches = za_read(&s->copied_out_batches),
		.zero_copy_batches = za_read(&s->zero_copy_batches),
		.partial_bytes = za_read(&s->partial_bytes),
		.discarded_rows = za_read(&s->discarded_rows),
		.stalls = za_read(&s->stalls),
		.stalled_ns = za_read(&s->stalled_ns),
		.starved = za_read(&s->starved),
		.rearms = za_read(&s->rearms),
		.nobufs = za_read(&s->nobufs),
		.cancelled = za_read(&s->cancelled),
		.enters = za_read(&s->enters),
		.wakes = za_read(&s->wakes),
		.accepted = za_read(&s->accepted),
		.refused = za_read(&s->refused),
		.accept_errors = za_read(&s->accept_errors),
		.framing_errors = za_read(&s->framing_errors),
		.events_lost = za_read(&s->events_lost),
		.chunks = area->chunks,
		.chunks_free = level.free,
		.chunks_offered = level.offered,
		.chunks_leased = area->chunks - level.free - level.offered,
		.batches_held = za_read(&s->batches_held),
		.connections = za_read(&s->connections),
		.paused = za_read(&s->paused),
		.copying_out = za_read(&s->copying_out),
		.flushes = za_read(&s->flushes),
		.alloc_fails = za_read(&s->alloc_fails),
		.copy_events = za_read(&s->copy_events),
		.returns_pending = za_read(&s->returns_pending),
		.kernel_copied_bytes = za_read(&s->kernel_copied_bytes),
		.lease_faults = za_read(&s->lease_faults),
	};
}

size_t za_area_map(struct za_area *area, uint8_t *out, size_t room)
{
	size_t known = room < area->chunks ? room : area->chunks;

	/* Relaxed, and paired with nothing: a word is looked at and its chunk is not read. A chunk
	 * that changes hands meanwhile shows one of the two states, which both were. */
	for (size_t i = 0; i < known; i++)
		out[i] = (uint32_t)atomic_load_explicit(&area->words[i], memory_order_relaxed)
				 ? ZA_CHUNK_LEASED
				 : ZA_CHUNK_FREE;
	za_refill_map(&area->refill, area, out, known);
	return area->chunks;
}
