/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * HTTP/2: all frames are told but what DATA frames carry, because each header block changes how the next is read. So the
 * frames are followed here, from the client's preface on.
 */
#ifndef VIGIE_L7_FRAMES_H
#define VIGIE_L7_FRAMES_H

#include "conn.h"

#define L7_FRAME_HEADER 9
#define L7_PREFACE      24
#define L7_FRAME_STEPS  64 /* of one call: frames, and single bytes of a frame's header that two calls share */

/* How far a segment has been followed. */
struct l7_walk {
	struct l7_said said;
	u32 dir;
	u32 off;
	u32 start; /* of what is still to be told */
};

/* Tells of the bytes from start to off. */
static __always_inline void l7_range(struct vg_l7_conn *c, struct l7_walk *w)
{
	struct l7_said piece = w->said;
	u32 start = w->start, len = w->off - start;

	if (start >= w->off)
		return;
	if (len > VG_L7_MAX)
		len = VG_L7_MAX; /* header blocks of that size are met hardly ever: then the connection cannot be followed */
	piece.buf += start;
	piece.pos += start;
	piece.size = w->off - start;
	l7_emit(c, &piece, len);
	w->said.flags &= ~VG_L7_F_BEGINS;
}

/* Reads a frame's header, or the next byte of one that began in the call before. */
static __always_inline void l7_frame_header(struct vg_l7_conn *c, struct l7_walk *w, u32 dir)
{
	u8 h[L7_FRAME_HEADER] = {}, have = c->have[dir];
	const void *at = w->said.buf + w->off;

	if (!have && w->said.size - w->off >= L7_FRAME_HEADER) {
		bpf_probe_read_user(h, sizeof(h), at);
		w->off += L7_FRAME_HEADER;
	} else {
		bpf_probe_read_user(&c->head[dir][have & 15], 1, at);
		w->off++;
		c->have[dir] = ++have;
		if (have < L7_FRAME_HEADER)
			return;
		__builtin_memcpy(h, c->head[dir], sizeof(h));
		c->have[dir] = 0;
	}
	c->left[dir] = (u32)h[0] << 16 | (u32)h[1] << 8 | h[2];
	c->data[dir] = h[3] == 0;
}

/* One step through a segment. Global, as l7_emit is. */
__noinline int l7_frame(struct vg_l7_conn *c, struct l7_walk *w)
{
	u32 dir, n;

	if (!c || !w)
		return 0;
	dir = w->dir & 1;
	n = c->left[dir];
	if (!n) {
		l7_frame_header(c, w, dir);
		return 0;
	}
	if (n > w->said.size - w->off)
		n = w->said.size - w->off;
	c->left[dir] -= n;
	if (c->data[dir]) {
		l7_range(c, w);
		w->start = w->off + n;
	}
	w->off += n;
	return 0;
}

static __noinline int l7_frames(struct vg_l7_conn *c, struct l7_said *said, u32 dir)
{
	struct l7_walk w = { .said = *said, .dir = dir };

	for (int i = 0; i < L7_FRAME_STEPS; i++) {
		if (w.off >= w.said.size)
			break;
		l7_frame(c, &w);
	}
	if (w.off < w.said.size) {
		c->mode = VG_L7_IGNORED;
		vg_lose(VG_LOST_L7_FRAMES);
	}
	l7_range(c, &w);
	said->flags = w.said.flags;
	return 0;
}

/* Whether a connection begins as HTTP/2 does; then its frames are followed. */
static __always_inline void l7_preface(struct vg_l7_conn *c, const struct l7_said *said, u32 dir)
{
	u32 word = 0;

	if (bpf_probe_read_user(&word, sizeof(word), said->buf) || word != 0x20495250 /* "PRI " */)
		return;
	c->frames = true;
	c->left[dir & 1] = L7_PREFACE;
	c->data[dir & 1] = false;
}

/* Tells of what is said, a segment of it, what the budget allows. Returns how much of the budget that took. Global, as l7_emit is. */
__noinline int l7_segment(struct vg_l7_conn *c, u32 dir, struct l7_said *said, u32 size)
{
	u32 len;

	if (!c || !said)
		return 0;
	said->size = size;
	if (said->flags & VG_L7_F_BEGINS && !c->frames)
		l7_preface(c, said, dir);
	if (c->frames) {
		l7_frames(c, said, dir);
		return 0;
	}
	len = l7_budget(c, dir, size);
	if (!len || len > VG_L7_MAX)
		return 0;
	l7_emit(c, said, len);
	said->flags &= ~VG_L7_F_BEGINS;
	return len;
}

#endif
