/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a wildcard map lies in its arrays. User space writes, programs read;
 * tests/bpf/test_layout.py compares this file with the writer through BTF.
 *
 * Two images of everything, chosen by the snapshot:
 *	head	one struct wildcard_head an image, then the tables
 *	rules	rows; row 0 of an image is never used, so 0 means none
 *	buckets	struct wildcard_bucket: the chains
 *	index	__u64: for each value of a window of key bits the set of tables
 *		that hold an entry which it could match
 */
#ifndef WILDCARD_LAYOUT_H
#define WILDCARD_LAYOUT_H

#define WILDCARD_MAX_TABLES 64
#define WILDCARD_MAX_WINDOWS 4
#define WILDCARD_MAX_WORDS 16

/* Bits of the key that index one array of table sets. */
struct wildcard_window {
	__u32 word;  /* which word of the key */
	__u32 shift; /* of the word in host order */
	__u32 mask;  /* 2^bits - 1 */
	__u32 base;  /* first element in the index array */
};

struct wildcard_head {
	__u64 tables;	    /* the set of tables in use */
	__u64 nowhere;	    /* behind every place: 2^64 - 1 */
	__u32 direct;	    /* not 0: each table is one row, and its seed says which */
	__u32 windows;	    /* how many windows are in use */
	__u32 rows_base;    /* first element of this image in rules */
	__u32 buckets_base; /* ... and in buckets */
	__u32 bucket_mask;  /* 2^n - 1 */
	__u32 none;	    /* the row that is none: 0 */
	__u32 chunk;	    /* tables to probe at once: no more than there are */
	__u32 reserved;
	struct wildcard_window window[WILDCARD_MAX_WINDOWS];
	__u32 seed[2 * WILDCARD_MAX_WORDS]; /* two a word of the key */
};

/* Bit n of a set is table n. Its record stands at the top six bits of 2^n times this, a de Bruijn
 * sequence: a different place for each, and BPF has no instruction that finds n.
 */
#define WILDCARD_TABLE_PLACES 0x022fdd63cc95386dULL

/* A tuple: the entries that are hashed by the same bits of the key. */
struct wildcard_table {
	__u64 best; /* no entry in this table has a lower place */
	__u64 rest; /* ... nor in any table behind it */
	__u64 seed;
	/* followed by the key's words of mask */
};

/* A chain: the entries whose hashes end alike, by their places. What a lookup needs to leave a
 * chain alone stands here, as each row is a cache line of its own.
 */
struct wildcard_bucket {
	__u64 place;  /* of the first row */
	__u32 row;    /* the first; 0: no chain */
	__u32 filter; /* bit n: a hash may start with n */
};

/* The head of a row; the key's words of value and of mask, the bounds of ranges (padded to 8
 * bytes) and the user's value follow. Bounds: of a range of up to 2 bytes the low bound in the low
 * half of a __u32 and the distance to the high bound in its high half; of more bytes two __u64.
 */
struct wildcard_entry {
	__u64 place; /* priority << 32 | place among those of this priority */
	__u32 next;  /* next row of the chain, 0 ends; chains are sorted by place */
	__u32 id;    /* the rule that the entry belongs to */
	__u32 table; /* 0: the row is free; else the table's number + 1 */
	__u32 order; /* as the caller gave it; for user space */
};

struct wildcard_counter {
	__u64 packets;
	__u64 bytes;
};

/* The state that all maps of a group share. */
struct wildcard_group {
	__u32 active; /* the image to read: the snapshot */
	__u32 reserved;
};

#endif /* WILDCARD_LAYOUT_H */
