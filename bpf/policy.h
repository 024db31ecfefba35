/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Policies in the kernel. Nothing here knows what a policy means: the agent has compiled each into a table of look-ups
 * (internal/policy/table.go is the contract), and a hook only finds the tables of the process that acts, looks up what
 * it does, and takes the strongest answer.
 *
 *   vg_subjects   process   → up to VG_SLOTS of (table, subject), made by internal/enforce/subject
 *   vg_tables     table     → where its automata and decisions lie
 *   vg_words      automata over paths and names, as double arrays; decisions; what a path class is as a `by` and as a `parent`
 *
 * A process whose entry names a table is judged by that table until its entry is replaced, in one step: a policy that
 * changes leaves no moment without a policy, and none with half of one.
 */
#ifndef VIGIE_POLICY_H
#define VIGIE_POLICY_H

#include "abi.h"
#include "task.h"

#define VG_SLOTS      8
#define VG_TABLES     65536 /* numbers of tables; 0 is none */
#define VG_CHUNK      131072 /* entries of one piece of vg_words: the largest automaton that a policy may have */
#define VG_CHUNKS     2048
#define VG_TEXT_MAX   4096
#define VG_MATCH_START 1

/* Table.Cells: decisions by operation. */
enum vg_file_access {
	VG_ACCESS_EXEC,
	VG_ACCESS_READ,
	VG_ACCESS_WRITE,
	VG_ACCESS_MODIFY,
};

/* policy.Decision */
#define vg_action(d) ((d) >> 14)
#define vg_rule(d)   ((d) & 0x3fff)

enum vg_act {
	VG_ACT_ALLOW,
	VG_ACT_AUDIT,
	VG_ACT_DENY,
	VG_ACT_KILL,
};

/* What a verdict is about; the order of model.Operations. */
enum vg_op {
	VG_OP_EXEC,
	VG_OP_READ,
	VG_OP_WRITE,
	VG_OP_MODIFY,
	VG_OP_CONNECT,
	VG_OP_SEND,
	VG_OP_BIND,
	VG_OP_LISTEN,
	VG_OP_ACCEPT,
	VG_OP_SOCKET,
	VG_OP_RECEIVE,
	VG_OP_CAPABILITY,
	VG_OP_PTRACE,
	VG_OP_BPF,
	VG_OP_MOUNT,
	VG_OP_MODULE,
};

/* vg_table.flags */
#define VG_TABLE_PARENT   0x01 /* a rule says `parent` */
#define VG_TABLE_USER     0x02 /* selects by uid */
#define VG_TABLE_BINARY   0x04 /* selects by binary */
#define VG_TABLE_RELEASE  0x08 /* out of force when the agent is gone */
#define VG_TABLE_EXEC     0x10 /* has rules about executing */
#define VG_TABLE_FILES    0x20 /* has rules about files */
#define VG_TABLE_NET      0x40 /* has rules about the network */
#define VG_TABLE_PRIV     0x80 /* has rules about capabilities or privileged operations */
#define VG_TABLE_NAMES    0x100 /* has rules about names */
#define VG_TABLE_PEERS    0x200 /* has rules about workloads as the other end */
#define VG_TABLE_TIMEOUT_DENY 0x400 /* the watchdog of fanotify denies */
#define VG_TABLE_INODES   0x800 /* has entries in vg_inodes */

struct vg_automaton {
	u32 chunk;
	u32 offset; /* of state 0 in the chunk */
	u32 cells;  /* 0: there is none, every text has class 0 */
	u32 pad;
};

struct vg_table {
	u32 policy; /* number of the policy: the same for the tables that follow one another */
	u32 flags;  /* VG_TABLE_* */
	struct vg_automaton paths, names, select;
	u32 words;      /* chunk of vg_words */
	u32 classes;    /* offset: by | parent << 8, by path class */
	u32 cells;      /* offset: four decisions, by path class and subject */
	u32 privileges; /* offset: a decision, by privilege and subject */
	u32 subjects;
	u32 parents;
	u32 uid;
	u16 defaults[3]; /* by direction */
	u16 sockets;
	u16 exec_default; /* the rule that denies what an allow list of processes does not have; 0: there is none */
	u16 pad[3];
};

struct vg_slot {
	u16 table; /* 0: none */
	u16 subject;
	u16 binary; /* path class of the process's binary */
	u16 pad;
};

/* A process under a policy. One under none has no entry. */
struct vg_subject {
	u64 start; /* of the process, as in vg_image */
	u32 exec;
	u32 count; /* slots in use, from the first */
	struct vg_slot slots[VG_SLOTS];
};

/* policy.MatchCell: a word. */
#define VG_CELL_FINAL        0x10000
#define vg_cell_edge(c)      (((c) >> 17) & 0x1ff)
#define vg_cell_base(c)      ((c) >> 26)
#define vg_cell_bases        0x3ffff
#define vg_cell_otherwise(c) (((c) >> 44) & 0x1ffff)

/* What the programs share beside tables. */
struct vg_policies {
	u32 agent;     /* pid of the agent */
	u32 gone;      /* it has ended */
	u32 selectors; /* how many of vg_selectors are in use */
	u32 parents;   /* a table's rules say `parent` */
	u32 exec_audit; /* what is only audited is told at sched_process_exec: no earlier hook does */
	u32 changed;   /* entries of vg_subjects that the iterator changed */
};

/* By pid of the group. As many processes as can be under policies at once: 3.3 MiB. Full: VG_LOST_SUBJECT_TABLE_FULL, and
 * the process is under no policy. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u32);
	__type(value, struct vg_subject);
} vg_subjects SEC(".maps");

/* The agent sets the size before load: its --max-policies, twice, because a table is there until its successor is in force. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2048);
	__type(key, u32);
	__type(value, struct vg_table);
} vg_tables SEC(".maps");

struct vg_words_chunk {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VG_CHUNK);
	__type(key, u32);
	__type(value, u64);
};

/* Pieces are made as they are needed, 1 MiB each; tables share them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, VG_CHUNKS);
	__type(key, u32);
	__array(values, struct vg_words_chunk);
} vg_words SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vg_policies);
} vg_policy_state SEC(".maps");

struct vg_hit_key {
	u16 table;
	u16 rule;
};

/* How often a rule denied, killed or would have. An entry comes with the first hit. Full: hits of further rules are not
 * counted; their verdicts are reported all the same. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_hit_key);
	__type(value, u64);
} vg_hits SEC(".maps");

/* The object itself, where a policy denies it by its path: its other names (hard links, bind mounts) are no way round. */
struct vg_inode_key {
	u64 inode;
	u32 dev; /* kernel dev_t */
	u32 table;
};

/* The path class under which the agent found the object. The agent fills it from the explicit denials of policies, and keeps
 * it up to date. Full: it says so in the policy's status. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vg_inode_key);
	__type(value, u32);
} vg_inodes SEC(".maps");

struct vg_verdict {
	struct vg_header h;
	u16 table;
	u16 rule;
	u8 action; /* enum vg_act: what was done */
	u8 op;     /* enum vg_op */
	u8 hook;   /* enum vg_hook */
	u8 protocol;
	u8 local[16]; /* IPv4 as ::ffff:a.b.c.d */
	u8 remote[16];
	u16 local_port; /* network byte order */
	u16 remote_port;
	u32 detail; /* capability; of a socket family << 16 | type */
	u16 path_len; /* text follows, without NUL */
	u16 name_class; /* of names: which decided */
	u32 pad;
};

/* What carried a decision out. The agent has the names (internal/enforce/verdict.go). Append only. */
enum vg_hook {
	VG_HOOK_NONE,
	VG_HOOK_EXEC_KILL, /* SIGKILL at sched_process_exec */
	VG_HOOK_LSM,
	VG_HOOK_FMOD_RET,
	VG_HOOK_CONNECT,
	VG_HOOK_SENDMSG,
	VG_HOOK_BIND,
	VG_HOOK_SOCK_CREATE,
	VG_HOOK_SKB_INGRESS,
	VG_HOOK_SKB_EGRESS,
	VG_HOOK_SYS_EXIT, /* SIGKILL at the return of the system call */
	VG_HOOK_CAPABLE,  /* SIGKILL at the tracepoint of a capability */
	VG_HOOK_FANOTIFY_OPEN,
	VG_HOOK_FANOTIFY_EXEC,
	VG_HOOK_CUT,
};

VG_EXPORT(struct, vg_table);
VG_EXPORT(struct, vg_subject);
VG_EXPORT(struct, vg_verdict);
VG_EXPORT(struct, vg_policies);
VG_EXPORT(struct, vg_hit_key);
VG_EXPORT(struct, vg_inode_key);
VG_EXPORT(enum, vg_hook);

/* A verdict that repeats within a second is counted in vg_hits and told with the next one, as its count. */
struct vg_verdict_key {
	u32 pid;
	u16 table;
	u16 rule;
	u64 object; /* and the operation, in the highest byte */
};

struct vg_verdict_seen {
	u64 told; /* CLOCK_BOOTTIME, ns */
	u64 held;
};

/* Full: the least recently used goes, and its next verdict is told at once. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct vg_verdict_key);
	__type(value, struct vg_verdict_seen);
} vg_verdicts_seen SEC(".maps");

#define VG_VERDICT_INTERVAL 1000000000ull

static __always_inline struct vg_subject *vg_subject_of(u32 pid)
{
	return bpf_map_lookup_elem(&vg_subjects, &pid);
}

/* The table of a slot, unless it is out of force because the agent is gone. */
static __always_inline struct vg_table *vg_table_of(u16 table)
{
	u32 key = table, zero = 0;
	struct vg_table *t = bpf_map_lookup_elem(&vg_tables, &key);

	if (!t)
		return 0;
	if (t->flags & VG_TABLE_RELEASE) {
		struct vg_policies *p = bpf_map_lookup_elem(&vg_policy_state, &zero);

		if (p && p->gone)
			return 0;
	}
	return t;
}

/* One word of a table; 0 when there is none. */
static __always_inline u64 vg_word(u32 chunk, u32 index)
{
	void *words = bpf_map_lookup_elem(&vg_words, &chunk);
	u64 *w;

	if (!words)
		return 0;
	w = bpf_map_lookup_elem(words, &index);
	return w ? *w : 0;
}

/* A text that is being judged, in a map. What stands before the bytes leaves room for a verdict, so that both are one
 * record. */
struct vg_text {
	u32 pos; /* the text is bytes[pos..VG_TEXT_MAX) */
	u32 pad;
	char head[sizeof(struct vg_verdict)];
	char bytes[VG_TEXT_MAX];
	char tail[256]; /* never written: the verifier cannot know that a copied name ends in bytes */
};

/* Where an automaton is in a text. */
struct vg_run {
	struct vg_text *text;
	u32 pos;
	u32 chunk, offset, cells;
	u32 state;
	u32 class;
};

#define VG_RUN_BYTES 32 /* of each step: the piece is looked up once a step */

static long vg_run_step(u32 i, struct vg_run *r)
{
	/* From i, which the verifier knows nothing of: a position that grew with each step would never look alike to it. */
	u32 pos = r->pos + i * VG_RUN_BYTES;
	u32 chunk = r->chunk, offset = r->offset, last = r->cells, state = r->state, next, key, at;
	void *cells = bpf_map_lookup_elem(&vg_words, &chunk);
	struct vg_text *text = r->text;
	u64 *t, cell;
	u8 byte;

	if (!cells)
		return 1;
	key = offset + state;
	t = bpf_map_lookup_elem(cells, &key);
	if (!t)
		return 1;
	cell = *t;
	for (int k = 0; k < VG_RUN_BYTES; k++) {
		if (pos >= VG_TEXT_MAX || cell & VG_CELL_FINAL) {
			r->class = cell & 0xffff;
			return 1;
		}
		at = pos;
		barrier_var(at); /* or the compiler, which knows that it is in bounds, leaves the mask out */
		at &= VG_TEXT_MAX - 1;
		byte = text->bytes[at];
		next = (vg_cell_base(cell) + byte) & vg_cell_bases;
		key = offset + next;
		t = bpf_map_lookup_elem(cells, &key);
		if (t && next < last && vg_cell_edge(*t) == (0x100 | byte)) {
			state = next;
		} else {
			state = vg_cell_otherwise(cell);
			key = offset + state;
			t = bpf_map_lookup_elem(cells, &key);
			if (!t)
				return 1;
		}
		cell = *t;
		pos++;
	}
	r->state = state;
	return 0;
}

/* The class that an automaton gives to a text. Global, so that it is verified once and not for each use; it takes
 * bpf_loop, so 5.17. */
__weak __noinline int vg_class(const struct vg_automaton *a, struct vg_text *text)
{
	struct vg_run r = {};

	if (!a || !text || !a->cells)
		return 0;
	r.text = text;
	r.pos = text->pos;
	r.chunk = a->chunk;
	r.offset = a->offset;
	r.cells = a->cells;
	r.state = VG_MATCH_START;
	bpf_loop(VG_TEXT_MAX / VG_RUN_BYTES + 1, vg_run_step, &r, 0);
	return r.class & 0xffff;
}

/* The decision about an operation on a path of that class. */
static __always_inline u16 vg_decide_file(struct vg_table *t, u16 class, u16 subject, u32 access)
{
	u64 cell = vg_word(t->words, t->cells + class * t->subjects + subject);

	return cell >> (16 * (access & 3));
}

static __always_inline u16 vg_decide_privilege(struct vg_table *t, u32 privilege, u16 subject)
{
	return vg_word(t->words, t->privileges + privilege * t->subjects + subject);
}

/* The number by which a table tells this binary, and the one that started it, from others. */
static __always_inline u16 vg_subject_number(struct vg_table *t, u16 binary, u16 parent)
{
	u32 by = vg_word(t->words, t->classes + binary) & 0xff;

	if (!(t->flags & VG_TABLE_PARENT))
		return by * t->parents;
	return by * t->parents + ((vg_word(t->words, t->classes + parent) >> 8) & 0xff);
}

/* The answers of several tables, of which the strongest counts. */
struct vg_answer {
	u16 table;
	u16 decision;
};

static __always_inline void vg_stronger(struct vg_answer *a, u16 table, u16 decision)
{
	if (vg_action(decision) > vg_action(a->decision)) {
		a->table = table;
		a->decision = decision;
	}
}

/* Counts a hit; true when the verdict is to be told now, with *held being how many were held back since. object tells
 * apart what a rule speaks about. */
static __always_inline bool vg_hit(struct vg_answer *a, u32 pid, u64 object, u64 now, u64 *held)
{
	struct vg_hit_key hit = {.table = a->table, .rule = vg_rule(a->decision)};
	struct vg_verdict_key key = {.pid = pid, .table = hit.table, .rule = hit.rule, .object = object};
	struct vg_verdict_seen *seen, fresh = {.told = now};
	u64 one = 1, *n = bpf_map_lookup_elem(&vg_hits, &hit);

	if (n) {
		__sync_fetch_and_add(n, 1);
	} else if (bpf_map_update_elem(&vg_hits, &hit, &one, BPF_NOEXIST)) {
		n = bpf_map_lookup_elem(&vg_hits, &hit);
		if (n)
			__sync_fetch_and_add(n, 1);
	}
	*held = 0;
	seen = bpf_map_lookup_elem(&vg_verdicts_seen, &key);
	if (!seen) {
		bpf_map_update_elem(&vg_verdicts_seen, &key, &fresh, BPF_ANY);
		return true;
	}
	if (now - seen->told < VG_VERDICT_INTERVAL) {
		__sync_fetch_and_add(&seen->held, 1);
		return false;
	}
	seen->told = now;
	*held = seen->held;
	seen->held = 0;
	return true;
}

/* Fills what every verdict has; false when it is not to be told now. */
static __always_inline bool vg_begin_verdict(struct vg_verdict *v, struct vg_answer *a, struct task_struct *t, u32 op, u32 hook,
					     u64 object)
{
	u64 held;

	__builtin_memset(v, 0, sizeof(*v));
	vg_fill_header(&v->h, VG_VERDICT, t);
	if (!vg_hit(a, v->h.pid, object ^ (u64)op << 56, v->h.time, &held))
		return false;
	v->h.count = 1 + held;
	v->table = a->table;
	v->rule = vg_rule(a->decision);
	v->action = vg_action(a->decision);
	v->op = op;
	v->hook = hook;
	return true;
}

#endif
