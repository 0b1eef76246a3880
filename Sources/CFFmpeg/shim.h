#pragma once
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/log.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

// macros that Swift does not import
static inline int everyframe_averror(int code) { return AVERROR(code); }
static inline int everyframe_averror_eof(void) { return AVERROR_EOF; }
static inline int everyframe_averror_invalid_data(void) { return AVERROR_INVALIDDATA; }
static inline int everyframe_averror_exit(void) { return AVERROR_EXIT; }
static inline int64_t everyframe_av_no_pts(void) { return AV_NOPTS_VALUE; }

// An enumerator in FFmpeg 5, a macro elsewhere
static inline uint64_t everyframe_pixel_format_flag_rgb(void) { return AV_PIX_FMT_FLAG_RGB; }
static inline int everyframe_averror_decoder_not_found(void) { return AVERROR_DECODER_NOT_FOUND; }
