/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Declaring maps and calling them.
 *
 *	WILDCARD_GROUP(group)			the state that maps share
 *	WILDCARD_MAP(map, desc, value, n)	a map of at most n entries
 *	wildcard_snapshot(group)		once a packet
 *	wildcard_lookup(map, snapshot, key, floor)	-> struct map_row * or NULL
 *	wildcard_count(map, row, bytes)		one packet for the row's rule id
 */
#ifndef WILDCARD_DECLARE_H
#define WILDCARD_DECLARE_H

#define WILDCARD_ARRAY_(name, elements, value_type) \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_ARRAY);   \
		__uint(map_flags, BPF_F_MMAPABLE);  \
		__uint(max_entries, elements);      \
		__type(key, __u32);                 \
		__type(value, value_type);          \
	} name SEC(".maps")

#define WILDCARD_GROUP(name) WILDCARD_ARRAY_(name, 1, struct wildcard_group)

/* Capacities stand here for a loader that creates the maps itself; the class
 * WildcardMap creates them with its own and hands them to the object.
 */
#define WILDCARD_MAP(name, desc, value_type, entries)                                              \
	struct name##_head {                                                                       \
		struct wildcard_head head;                                                         \
		struct {                                                                           \
			struct wildcard_table table;                                               \
			__u64 mask[desc##_words];                                                  \
		} tables[WILDCARD_MAX_TABLES];                                                     \
	};                                                                                         \
	struct name##_row {                                                                        \
		__u64 place;                                                                       \
		__u32 next;                                                                        \
		__u32 id;                                                                          \
		__u32 table;                                                                       \
		__u32 order;                                                                       \
		struct desc##_elem key[0]; /* tells user space what the key is */                  \
		__u64 match[2 * desc##_words + desc##_bounds];                                     \
		value_type value;                                                                  \
	} __attribute__((aligned(8)));                                                             \
	WILDCARD_ARRAY_(name##_head, 2, struct name##_head);                                       \
	WILDCARD_ARRAY_(name##_rules, 2 * ((entries) + 1), struct name##_row);                     \
	WILDCARD_ARRAY_(name##_buckets, 4 * (entries), struct wildcard_bucket);                    \
	WILDCARD_ARRAY_(name##_index, 2 * WILDCARD_MAX_WINDOWS, __u64);                            \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, entries);                                                      \
		__type(key, __u32);                                                                \
		__type(value, struct wildcard_counter);                                            \
	} name##_counters SEC(".maps");                                                            \
                                                                                                   \
	static long name##_chain(__u32 i __attribute__((unused)), void *walk)                      \
	{                                                                                          \
		return wildcard_step(&desc##_desc, walk, &name##_rules);                           \
	}                                                                                          \
                                                                                                   \
	static long name##_tables(__u32 i __attribute__((unused)), void *walk)                     \
	{                                                                                          \
		return wildcard_next(&desc##_desc, walk, &name##_rules, &name##_buckets,           \
				     name##_chain);                                                \
	}                                                                                          \
                                                                                                   \
	__attribute__((noinline)) __u32 name##_find(__u32 snapshot, const struct desc##_elem *key, \
						    __u64 floor)                                   \
	{                                                                                          \
		struct name##_head *head = bpf_map_lookup_elem(&name##_head, &snapshot);           \
                                                                                                   \
		if (!head || !key)                                                                 \
			return 0;                                                                  \
		return wildcard_find(&desc##_desc, &head->head, (const __u64 *)key, floor,         \
				     &name##_rules, &name##_buckets, &name##_index, name##_chain,  \
				     name##_tables);                                               \
	}                                                                                          \
	struct wildcard_swallow_semicolon

#define wildcard_snapshot(group)                                                     \
	({                                                                           \
		__u32 zero_ = 0;                                                     \
		struct wildcard_group *group_ = bpf_map_lookup_elem(&group, &zero_); \
		group_ ? *(volatile __u32 *)&group_->active : 0;                     \
	})

#define wildcard_lookup(map, snapshot, key, floor)                                \
	({                                                                        \
		__u32 at_ = map##_find(snapshot, key, floor);                     \
		at_ ? (struct map##_row *)bpf_map_lookup_elem(&map##_rules, &at_) \
		    : (struct map##_row *)0;                                      \
	})

#define wildcard_count(map, row, length)                                                        \
	({                                                                                      \
		__u32 id_ = (row)->id;                                                          \
		struct wildcard_counter *counter_ = bpf_map_lookup_elem(&map##_counters, &id_); \
		if (counter_) {                                                                 \
			__sync_fetch_and_add(&counter_->packets, 1);                            \
			__sync_fetch_and_add(&counter_->bytes, length);                         \
		}                                                                               \
	})

#endif /* WILDCARD_DECLARE_H */
