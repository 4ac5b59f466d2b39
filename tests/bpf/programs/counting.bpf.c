/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Count one packet of 100 bytes for the rule that a number matches. */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "wildcard.h"

WILDCARD_GROUP(group);
WILDCARD_DESC_1(key, MATCH, __u32, number);
WILDCARD_MAP(counted, key, __u64, 8);

SEC("raw_tp")
int count(struct bpf_raw_tracepoint_args *arguments)
{
	struct key_elem key = { .number = bpf_htonl(arguments->args[0]) };
	struct counted_row *row = wildcard_lookup(counted, wildcard_snapshot(group), &key, 0);

	if (row)
		wildcard_count(counted, row, 100);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
