/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Names: the answers to a workload's own questions, read before they are delivered, so that the address that a program is
 * about to connect to is known when it connects. All addresses of an answer are those of the name that was asked for,
 * whatever names stand between (CNAME). What cannot be read, or does not fit, is counted (VG_LOST_DNS_NAMES_FULL).
 */
#ifndef VIGIE_NETWORK_NAMES_H
#define VIGIE_NETWORK_NAMES_H

#include "loop.h"
#include "owner.h"

#define VG_DNS_HEADER  12
#define VG_DNS_NAME    255 /* octets, RFC 1035, section 2.3.4 */
#define VG_DNS_STEPS   512 /* labels and records of one answer */
#define VG_DNS_LEAST   60  /* seconds that an address counts at least: programs keep what they have resolved */
#define VG_DNS_A       1
#define VG_DNS_AAAA    28
#define VG_DNS_IN      1

struct vg_dns_scratch {
	struct vg_text text;
	u8 wire[256];
	u32 tables[VG_SLOTS];
	u32 classes[VG_SLOTS];
};

/* Of the ingress hook alone, which runs in softirq and does not interrupt itself. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vg_dns_scratch);
} vg_dns_scratch SEC(".maps");

/* Adds a class to an address, or prolongs it. Several processors can be here with one address. */
static __always_inline void learn(u32 table, const u8 *addr, u16 class, u32 end)
{
	struct vg_net_name_key k = {.table = table};
	u64 now = bpf_ktime_get_boot_ns() / 1000000000, fresh = (u64)class << 32 | end;
	struct vg_net_places *n, first = {.places = {fresh}};

	__builtin_memcpy(k.addr, addr, 16);
	n = bpf_map_lookup_elem(&vg_net_names, &k);
	if (!n) {
		if (!bpf_map_update_elem(&vg_net_names, &k, &first, BPF_NOEXIST))
			return;
		n = bpf_map_lookup_elem(&vg_net_names, &k);
	}
	if (!n)
		goto lost;
	for (int i = 0; i < VG_NET_CLASSES; i++) {
		u64 place = *(volatile u64 *)&n->places[i];

		if (place >> 32 == class) {
			if ((u32)place >= end || __sync_val_compare_and_swap(&n->places[i], place, fresh) == place)
				return;
		}
	}
	for (int i = 0; i < VG_NET_CLASSES; i++) {
		u64 place = *(volatile u64 *)&n->places[i];

		if ((!place || (u32)place < now) && __sync_val_compare_and_swap(&n->places[i], place, fresh) == place)
			return;
	}
lost:
	vg_lose(VG_LOST_DNS_NAMES_FULL);
}

struct vg_dns_name {
	struct vg_dns_scratch *s;
	u32 at;    /* octet of wire that is next */
	u32 left;  /* octets of the label that are left */
	u32 to;    /* of text */
	u32 state; /* 1: ended, 2: no name */
};

/* Finds the end of the name: at is then that of the final 0. */
static long measure_label(u32 i, struct vg_dns_name *n)
{
	u32 at = n->at;
	u8 len;

	barrier_var(at);
	at &= 255;
	len = n->s->wire[at];
	if (!len) {
		n->state = 1;
		return 1;
	}
	if (len > 63 || n->at + len + 1 >= VG_DNS_NAME) {
		n->state = 2;
		return 1;
	}
	n->at += len + 1;
	return 0;
}

/* The octet i + 1 of wire becomes a byte of text. */
static long copy_octet(u32 i, struct vg_dns_name *n)
{
	struct vg_dns_scratch *s = n->s;
	u32 at = i + 1, to = n->to + i;
	u8 c;

	if (at >= n->at)
		return 1;
	barrier_var(at);
	at &= 255;
	c = s->wire[at];
	if (!n->left) {
		n->left = c;
		c = '.';
	} else {
		n->left--;
		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c == '.' || !c) { /* would look like another name */
			n->state = 2;
			return 1;
		}
	}
	barrier_var(to);
	to &= VG_TEXT_MAX - 1;
	s->text.bytes[to] = c;
	return 0;
}

/* The question's name as text; its octets on the wire, or 0 when it is none. */
static __always_inline u32 read_name(struct __sk_buff *skb, u32 off, u32 len, struct vg_dns_scratch *s)
{
	struct vg_dns_name n = {.s = s, .at = vg_loop_zero, .state = vg_loop_zero};

	if (len > VG_DNS_NAME)
		len = VG_DNS_NAME;
	/* The verifiers before 6.8 want to be shown that it is at least 1. */
	len--;
	barrier_var(len);
	if (len > VG_DNS_NAME - 1)
		return 0;
	if (bpf_skb_load_bytes(skb, off, s->wire, len + 1))
		return 0;
	bpf_loop(128, measure_label, &n, 0);
	if (n.state != 1 || n.at < 2 || n.at > len)
		return 0;
	n.left = s->wire[0];
	n.to = VG_TEXT_MAX - (n.at - 1);
	s->text.pos = n.to;
	bpf_loop(VG_DNS_NAME, copy_octet, &n, 0);
	return n.state == 1 ? n.at + 1 : 0;
}

struct vg_dns_walk {
	struct __sk_buff *skb;
	struct vg_dns_scratch *s;
	u32 off, end;
	u32 records; /* that are left */
	u32 in_name;
	u32 now;
	u32 bad;
};

struct vg_dns_record {
	u16 type, class;
	u16 ttl_high, ttl_low;
	u16 len;
};

static __always_inline void learn_record(struct vg_dns_walk *w, const struct vg_dns_record *r, u32 off)
{
	u32 ttl = (u32)bpf_ntohs(r->ttl_high) << 16 | bpf_ntohs(r->ttl_low);
	u16 type = bpf_ntohs(r->type), len = bpf_ntohs(r->len);
	struct vg_dns_scratch *s = w->s;
	u8 addr[16];

	if (type == VG_DNS_A && len == 4) {
		u32 a;

		if (bpf_skb_load_bytes(w->skb, off, &a, 4))
			return;
		vg_map_ipv4(addr, a);
	} else if (type == VG_DNS_AAAA && len == 16) {
		if (bpf_skb_load_bytes(w->skb, off, addr, 16))
			return;
	} else {
		return;
	}
	if (ttl < VG_DNS_LEAST)
		ttl = VG_DNS_LEAST;
	if (ttl > 1u << 31) /* RFC 2181, section 8: such a one is 0 */
		ttl = VG_DNS_LEAST;
	for (int i = 0; i < VG_SLOTS; i++)
		if (s->classes[i])
			learn(s->tables[i], addr, s->classes[i], w->now + ttl);
}

/* One label of a record's name, or what comes behind the name. */
static long read_step(u32 i, struct vg_dns_walk *w)
{
	struct vg_dns_record r;
	u8 b;

	if (!w->records)
		return 1;
	if (w->off >= w->end) {
		w->bad = 1;
		return 1;
	}
	if (w->in_name) {
		if (bpf_skb_load_bytes(w->skb, w->off, &b, 1)) {
			w->bad = 1;
			return 1;
		}
		if (b >= 0xc0) {
			w->off += 2;
			w->in_name = 0;
		} else {
			w->off += b + 1;
			w->in_name = b != 0;
		}
		return 0;
	}
	if (bpf_skb_load_bytes(w->skb, w->off, &r, sizeof(r))) {
		w->bad = 1;
		return 1;
	}
	if (bpf_ntohs(r.class) == VG_DNS_IN)
		learn_record(w, &r, w->off + sizeof(r));
	w->off += sizeof(r) + bpf_ntohs(r.len);
	w->in_name = 1;
	w->records--;
	return 0;
}

/* The tables of s that know the name; whether there is one. */
static __always_inline bool classify(const struct vg_subject *s, struct vg_dns_scratch *scratch)
{
	bool any = false;

	for (u32 i = 0; i < VG_SLOTS; i++) {
		struct vg_table *t;

		scratch->classes[i] = 0;
		if (i >= s->count)
			continue;
		t = vg_table_of(s->slots[i].table);
		if (!t || !(t->flags & VG_TABLE_NAMES))
			continue;
		scratch->tables[i] = s->slots[i].table;
		scratch->classes[i] = vg_class(&t->names, &scratch->text);
		any = any || scratch->classes[i];
	}
	return any;
}

static __always_inline bool has_names(const struct vg_subject *s)
{
	u32 n = s->count;

	for (u32 i = 0; i < VG_SLOTS && i < n; i++) {
		struct vg_table *t = vg_table_of(s->slots[i].table);

		if (t && t->flags & VG_TABLE_NAMES)
			return true;
	}
	return false;
}

/* An answer, which begins at off, to a question of the process with this entry. */
static __noinline int read_answer(struct __sk_buff *skb, u32 off, const struct vg_subject *s)
{
	u32 zero = 0, len = skb->len, name;
	struct vg_dns_walk w = {.skb = skb};
	u16 h[VG_DNS_HEADER / 2];

	w.s = bpf_map_lookup_elem(&vg_dns_scratch, &zero);
	if (!w.s || !s)
		return 0;
	if (off > 512 || len <= off + VG_DNS_HEADER || bpf_skb_load_bytes(skb, off, h, sizeof(h)))
		return 0;
	/* An answer to a standard query with one question. */
	if ((h[1] & bpf_htons(0xf800)) != bpf_htons(0x8000) || h[2] != bpf_htons(1) || !h[3])
		return 0;
	name = read_name(skb, off + VG_DNS_HEADER, len - off - VG_DNS_HEADER, w.s);
	if (!name) {
		vg_lose(VG_LOST_DNS_NAMES_FULL);
		return 0;
	}
	if (!classify(s, w.s))
		return 0;
	w.off = off + VG_DNS_HEADER + name + 4;
	w.end = len;
	w.records = bpf_ntohs(h[3]);
	w.in_name = 1 + vg_loop_zero;
	w.bad = vg_loop_zero;
	w.now = bpf_ktime_get_boot_ns() / 1000000000;
	bpf_loop(VG_DNS_STEPS, read_step, &w, 0);
	if (w.bad || w.records)
		vg_lose(VG_LOST_DNS_NAMES_FULL);
	return 0;
}

/* What the agent has read itself: answers over TCP, and those that could not be read here. */
struct vg_net_lesson {
	u8 addr[16];
	u32 table;
	u32 class;
	u32 end; /* seconds of CLOCK_BOOTTIME */
	u32 pad;
};

VG_EXPORT(struct, vg_net_lesson);

SEC("syscall")
int vg_net_teach(struct vg_net_lesson *lesson)
{
	u8 addr[16];

	__builtin_memcpy(addr, lesson->addr, 16);
	learn(lesson->table, addr, lesson->class, lesson->end);
	return 0;
}

#endif
