/* SPDX-License-Identifier: Apache-2.0 */
#include "refill.h"

#include "../rx/area.h"

int za_refill_init(struct za_refill *refill)
{
	return -pthread_mutex_init(&refill->lock, NULL);
}

void za_refill_fini(struct za_refill *refill)
{
	za_buffers_fini(&refill->buffers);
	za_refill_ring_fini(&refill->ring);
	pthread_mutex_destroy(&refill->lock);
}

void za_refill_attach(struct za_refill *refill, const struct za_refill_ops *ops,
		      struct za_waker waker)
{
	pthread_mutex_lock(&refill->lock);
	refill->ops = ops;
	refill->waker = waker;
	pthread_mutex_unlock(&refill->lock);
}

void za_refill_detach(struct za_refill *refill)
{
	pthread_mutex_lock(&refill->lock);
	refill->waker = (struct za_waker){NULL, NULL};
	refill->starved = false;
	pthread_mutex_unlock(&refill->lock);
}

void za_refill_give(struct za_refill *refill, struct za_area *area, const struct za_return *returns,
		    uint32_t n)
{
	pthread_mutex_lock(&refill->lock);
	refill->ops->give(refill, area, returns, n);
	/* Woken under the lock: after za_refill_detach() nobody uses the waker any more. */
	if (refill->starved && refill->waker.wake) {
		refill->starved = false;
		refill->waker.wake(refill->waker.arg);
	}
	pthread_mutex_unlock(&refill->lock);
}

struct za_refill_level za_refill_level(struct za_refill *refill, const struct za_area *area)
{
	struct za_refill_level level = {.free = area->chunks};

	pthread_mutex_lock(&refill->lock);
	if (refill->ops)
		level = refill->ops->level(refill, area);
	pthread_mutex_unlock(&refill->lock);
	return level;
}

void za_refill_map(struct za_refill *refill, const struct za_area *area, uint8_t *out, size_t room)
{
	pthread_mutex_lock(&refill->lock);
	if (refill->ops)
		refill->ops->map(refill, area, out, room);
	pthread_mutex_unlock(&refill->lock);
}
