/* SPDX-License-Identifier: Apache-2.0 */
#include "za.h"
