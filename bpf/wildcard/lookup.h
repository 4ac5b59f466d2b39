/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The lookup. Tables are visited in the order of the best place in them; a few index
 * arrays, one read each, say beforehand which tables can hold a match. In a table one
 * hash of the key under the table's mask leads to a chain that is sorted by place.
 *
 * Every function here is inlined into a function of one map (declare.h) and compiled for
 * its description: loops over fields and words are unrolled and their bounds are constants.
 */
#ifndef WILDCARD_LOOKUP_H
#define WILDCARD_LOOKUP_H

/* Rows that are looked at before bpf_loop() takes over: of a chain, and of a small map. */
#define WILDCARD_INLINE_CHAIN 3
#define WILDCARD_INLINE_ROWS 2
/* Tables that are probed at once. */
#define WILDCARD_CHUNK 4
/* More than any map can hold: a chain is never cut short. */
#define WILDCARD_CHAIN_LOOPS (1 << 23)

#define WILDCARD_ENTRY_WORDS (sizeof(struct wildcard_entry) / 8)

/* What a lookup carries from table to table and from row to row. */
struct wildcard_walk {
	const __u64 *key;
	const struct wildcard_head *head;
	__u64 set;  /* tables still to visit */
	__u64 best; /* only a lower place is of interest */
	__u64 floor;
	__u32 row; /* the next row; 0 ends */
	__u32 found;
};

/* Makes the compiler finish with one word of a long key before it loads the next: it would
 * load all first and keep them on the stack.
 */
#define WILDCARD_IN_TURN_(d, result)                                  \
	do {                                                          \
		if ((d)->words > 4)                                   \
			asm volatile("" : "+r"(result) : : "memory"); \
	} while (0)

/* The lowest table of a set that is not empty. */
static __always_inline const struct wildcard_table *
wildcard_first(const struct wildcard_desc *d, const struct wildcard_head *head, __u64 set)
{
	const __u32 stride = sizeof(struct wildcard_table) + 8 * d->words;

	return (const void *)(head + 1) + (((set & -set) * WILDCARD_TABLE_PLACES) >> 58) * stride;
}

/* A field's number in host order. The field may lie across two words. */
static __always_inline __u64 wildcard_number(const struct wildcard_field *f, const __u64 *key)
{
	const __u64 *word = (const void *)key + f->word;
	__u64 n = __builtin_bswap64(word[0]) << f->left;

	if (f->left > f->right)
		n |= __builtin_bswap64(word[1]) >> (64 - f->left);
	return n >> f->right;
}

/* The tables that could hold a match, as far as the windows tell. */
static __always_inline __u64 wildcard_candidates(const struct wildcard_desc *d,
						 const struct wildcard_head *head, const __u64 *key,
						 void *index)
{
	__u64 set = head->tables;

#pragma unroll
	for (__u32 i = 0; i < WILDCARD_MAX_WINDOWS; i++) {
		const struct wildcard_window *w = &head->window[i];
		__u32 word = w->word, at;
		__u64 *tables;

		if (i >= head->windows)
			break;
		if (word >= d->words)
			break;
		at = w->base + ((__builtin_bswap64(key[word]) >> (w->shift & 63)) & w->mask);
		tables = bpf_map_lookup_elem(index, &at);
		if (tables)
			set &= *tables;
	}
	return set;
}

/* NH (Black et al., UMAC, 1999) with the map's seeds, then one round of mixing: what
 * packets bring cannot be made to collide without knowing the seeds.
 */
static __always_inline __u32 wildcard_hash(const struct wildcard_desc *d,
					   const struct wildcard_head *head,
					   const struct wildcard_table *table, const __u64 *key)
{
	const __u64 *mask = (const __u64 *)(table + 1);
	__u64 sum = table->seed;

#pragma unroll
	for (__u32 i = 0; i < WILDCARD_MAX_WORDS; i++) {
		__u64 word;

		if (i >= d->words)
			break;
		word = key[i] & mask[i];
		sum += (__u64)((__u32)word + head->seed[2 * i]) *
		       (__u32)((__u32)(word >> 32) + head->seed[2 * i + 1]);
		WILDCARD_IN_TURN_(d, sum);
	}
	sum ^= sum >> 32;
	sum *= 0x9e3779b97f4a7c15ULL;
	return sum >> 32;
}

static __always_inline bool wildcard_match(const struct wildcard_desc *d, const __u64 *row,
					   const __u64 *key)
{
	const __u64 *value = row + WILDCARD_ENTRY_WORDS;
	const __u64 *mask = value + d->words;
	const __u32 *bounds = (const void *)(mask + d->words);
	__u64 differ = 0;

#pragma unroll
	for (__u32 i = 0; i < WILDCARD_MAX_WORDS; i++) {
		if (i >= d->words)
			break;
		differ |= (key[i] & mask[i]) ^ value[i];
		WILDCARD_IN_TURN_(d, differ);
	}
	if (differ)
		return false;
#pragma unroll
	for (int i = 0; i < WILDCARD_MAX_FIELDS; i++) {
		__u64 number;

		if (d->field[i].kind != WILDCARD_KIND_RANGE)
			continue;
		number = wildcard_number(&d->field[i], key);
		if (d->field[i].right >= 48) {
			/* Borrows where the distance is too long. */
			differ |= ((bounds[0] >> 16) - ((number - bounds[0]) & 0xffff)) >> 63;
			bounds++;
		} else {
			/* Whether span - number borrows; a branch would double what is verified. */
			__u64 span = bounds[2] | (__u64)bounds[3] << 32;

			number -= bounds[0] | (__u64)bounds[1] << 32;
			differ |= ((~span & number) | (~(span ^ number) & (span - number))) >> 63;
			bounds += 4;
			WILDCARD_IN_TURN_(d, differ);
		}
	}
	return !differ;
}

/* One row of a chain. Returns true where the chain has no more to say. */
static __always_inline bool wildcard_step(const struct wildcard_desc *d, struct wildcard_walk *walk,
					  void *rules)
{
	__u32 at = walk->head->rows_base + walk->row;
	const __u64 *row = bpf_map_lookup_elem(rules, &at);
	const struct wildcard_entry *entry = (const void *)row;

	walk->row = 0;
	if (!row || entry->place >= walk->best)
		return true;
	if (entry->place >= walk->floor && wildcard_match(d, row, walk->key)) {
		walk->best = entry->place;
		walk->found = at;
		return true;
	}
	walk->row = entry->next;
	return !walk->row;
}

/* The chain that starts at walk->row. Leaves what it found in the walk. bpf_loop() works on `slow`,
 * so that the common path can keep its walk in registers.
 */
static __always_inline void wildcard_follow(const struct wildcard_desc *d,
					    struct wildcard_walk *walk, struct wildcard_walk *slow,
					    void *rules, long (*chain)(__u32, void *))
{
	for (int i = 0; i < WILDCARD_INLINE_CHAIN; i++)
		if (wildcard_step(d, walk, rules))
			return;
	if (walk == slow) {
		bpf_loop(WILDCARD_CHAIN_LOOPS, chain, walk, 0);
	} else {
		*slow = *walk;
		bpf_loop(WILDCARD_CHAIN_LOOPS, chain, slow, 0);
		walk->best = slow->best;
		walk->found = slow->found;
	}
}

/*
 * The next WILDCARD_CHUNK tables of walk->set at once: first all their buckets, without a
 * branch that depends on the packet, then the few chains that the filters let through.
 * What a mispredicted branch costs is the most of what a lookup costs.
 */
static __always_inline void wildcard_probe(const struct wildcard_desc *d,
					   struct wildcard_walk *walk, struct wildcard_walk *slow,
					   void *rules, void *buckets, long (*chain)(__u32, void *))
{
	const struct wildcard_head *head = walk->head;
	__u32 chains[WILDCARD_CHUNK] = {};
	struct wildcard_bucket *bucket;
	__u64 live = 0;
	__u32 hash, at;

#pragma unroll
	for (__u32 i = 0; i < WILDCARD_CHUNK; i++) {
		const struct wildcard_table *table = wildcard_first(d, head, walk->set);
		__u64 here = (walk->set | -walk->set) >> 63; /* 0: no table is left */

		if (i >= head->chunk)
			break;
		hash = wildcard_hash(d, head, table, walk->key);
		at = head->buckets_base + (hash & head->bucket_mask);
		bucket = bpf_map_lookup_elem(buckets, &at);
		if (!bucket)
			return;
		live |= (bucket->filter >> (hash >> 27) & here) << i;
		chains[i] = at;
		walk->set &= walk->set - 1;
	}
	for (int i = 0; i < WILDCARD_CHUNK && live; i++) {
		__u64 lowest = live & -live;

		live &= live - 1;
		at = chains[((lowest >> 1) - (lowest >> 3)) % WILDCARD_CHUNK];
		bucket = bpf_map_lookup_elem(buckets, &at);
		if (!bucket || bucket->place >= walk->best)
			continue;
		walk->row = bucket->row;
		wildcard_follow(d, walk, slow, rules, chain);
	}
}

/* Where the map is small every table is one row, and the windows leave few of them. */
static __always_inline void wildcard_direct(const struct wildcard_desc *d,
					    struct wildcard_walk *walk, void *rules)
{
	walk->row = wildcard_first(d, walk->head, walk->set)->seed;
	walk->set = wildcard_step(d, walk, rules) && walk->found ? 0 : walk->set & (walk->set - 1);
}

/* bpf_loop() over the tables that the common path did not come to. */
static __always_inline long wildcard_next(const struct wildcard_desc *d, struct wildcard_walk *walk,
					  void *rules, void *buckets, long (*chain)(__u32, void *))
{
	if (!walk->set || wildcard_first(d, walk->head, walk->set)->rest >= walk->best)
		return 1;
	if (walk->head->direct)
		wildcard_direct(d, walk, rules);
	else
		wildcard_probe(d, walk, walk, rules, buckets, chain);
	return 0;
}

/*
 * The element of `rules` with the best match at or behind `floor`, or 0. `chain` and
 * `tables` are the bpf_loop() callbacks that run wildcard_step() and wildcard_next() for
 * this map.
 */
static __always_inline __u32 wildcard_find(const struct wildcard_desc *d,
					   const struct wildcard_head *head, const __u64 *key,
					   __u64 floor, void *rules, void *buckets, void *index,
					   long (*chain)(__u32, void *),
					   long (*tables)(__u32, void *))
{
	struct wildcard_walk walk, slow;

	walk.key = key;
	walk.head = head;
	walk.floor = floor;
	walk.set = wildcard_candidates(d, head, key, index);
	/* The verifier must not know these, or it follows every path once for them alone. */
	walk.best = head->nowhere;
	walk.found = head->none;
	walk.row = head->none;
	if (head->direct) {
		for (int i = 0; i < WILDCARD_INLINE_ROWS && walk.set; i++)
			wildcard_direct(d, &walk, rules);
	} else if (walk.set) {
		wildcard_probe(d, &walk, &slow, rules, buckets, chain);
	}
	if (walk.set) {
		slow = walk;
		bpf_loop(WILDCARD_MAX_TABLES, tables, &slow, 0);
		return slow.found;
	}
	return walk.found;
}

#endif /* WILDCARD_LOOKUP_H */
