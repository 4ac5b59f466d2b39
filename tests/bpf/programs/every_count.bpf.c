/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A map of each number of fields, 1 to 9, with every kind and size among them. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "wildcard.h"

struct sixteen {
	__u64 half[2];
};

WILDCARD_GROUP(group);

/* clang-format off */
WILDCARD_DESC_1(d1, RANGE, __u8, a);
WILDCARD_DESC_2(d2, RANGE, __u16, a, MATCH, __u8, b);
WILDCARD_DESC_3(d3, RANGE, __u32, a, MATCH, __u16, b, PREFIX, __u8, c);
WILDCARD_DESC_4(d4, RANGE, __u64, a, MATCH, __u32, b, PREFIX, __u16, c, WILDCARD_MATCH, __u8, d);
WILDCARD_DESC_5(d5, MATCH, __u64, a, PREFIX, __u32, b, WILDCARD_MATCH, __u16, c, RANGE, __u8, d,
		MATCH, struct sixteen, e);
WILDCARD_DESC_6(d6, PREFIX, __u64, a, WILDCARD_MATCH, __u32, b, RANGE, __u16, c, MATCH, __u8, d,
		PREFIX, struct sixteen, e, RANGE, __u64, f);
WILDCARD_DESC_7(d7, WILDCARD_MATCH, __u64, a, RANGE, __u32, b, MATCH, __u16, c, PREFIX, __u8, d,
		WILDCARD_MATCH, struct sixteen, e, RANGE, __u64, f, MATCH, __u8, g);
WILDCARD_DESC_8(d8, MATCH, struct sixteen, a, MATCH, struct sixteen, b, PREFIX, struct sixteen, c,
		PREFIX, struct sixteen, d, WILDCARD_MATCH, struct sixteen, e, MATCH, struct sixteen, f,
		MATCH, struct sixteen, g, PREFIX, struct sixteen, h);
WILDCARD_DESC_9(d9, RANGE, __u64, a, RANGE, __u64, b, RANGE, __u64, c, RANGE, __u64, d, RANGE, __u64, e,
		RANGE, __u64, f, RANGE, __u64, g, RANGE, __u64, h, RANGE, __u64, i);
/* clang-format on */

/* Each lookup in a program of its own: what one map costs the verifier is then its own affair. */
#define LOOK_UP(n)                                                              \
	WILDCARD_MAP(m##n, d##n, __u64, 8);                                     \
	SEC("tc")                                                               \
	int look_up_##n(struct __sk_buff *skb)                                  \
	{                                                                       \
		struct d##n##_elem key = {};                                    \
		struct m##n##_row *row;                                         \
                                                                                \
		if (bpf_skb_load_bytes(skb, 0, &key, sizeof(key)))              \
			return -1;                                              \
		row = wildcard_lookup(m##n, wildcard_snapshot(group), &key, 0); \
		if (!row)                                                       \
			return 0;                                               \
		wildcard_count(m##n, row, skb->len);                            \
		return row->value;                                              \
	}

LOOK_UP(1)
LOOK_UP(2)
LOOK_UP(3)
LOOK_UP(4)
LOOK_UP(5)
LOOK_UP(6)
LOOK_UP(7)
LOOK_UP(8)
LOOK_UP(9)

char LICENSE[] SEC("license") = "GPL";
