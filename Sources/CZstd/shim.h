#pragma once
#include <zstd.h>

// a macro that Swift does not import
static inline unsigned long long everyframe_zstd_content_size_unknown(void) { return ZSTD_CONTENTSIZE_UNKNOWN; }
