/* SPDX-License-Identifier: Apache-2.0 */
/* frame.c - choosing a framing. */
#include "frame.h"

#include <errno.h>
#include <string.h>

#include "../error.h"

int za_framing_init(struct za_framing *framing, const struct za_config *config,
		    struct za_error *error)
{
	*framing = (struct za_framing){
		.max_message_bytes = config->max_message_bytes,
		.delimiter_bytes = config->delimiter_bytes,
		.emit_unterminated = config->emit_unterminated,
	};
	memcpy(framing->delimiter, config->delimiter, sizeof(framing->delimiter));
	switch (config->framing) {
	case ZA_FRAMING_RAW:
		framing->ops = &za_framing_raw;
		return 0;
	case ZA_FRAMING_DELIMITED:
		framing->ops = &za_framing_delimited;
		if (config->delimiter_bytes < 1 || config->delimiter_bytes > 8)
			return za_fail(error, -EINVAL, "config",
				       "delimiter must have 1 to 8 bytes, not %u",
				       config->delimiter_bytes);
		if (config->max_message_bytes < 1 || config->max_message_bytes > 1U << 30)
			return za_fail(error, -EINVAL, "config",
				       "max_message must be 1 byte to 1 GiB, not %u",
				       config->max_message_bytes);
		return 0;
	default:
		return za_fail(error, -EINVAL, "config", "framing %u is unknown", config->framing);
	}
}
