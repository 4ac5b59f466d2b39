// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The commit of a group of wildcard maps: make the other image the active one.
 *
 * An atomic exchange in BPF is a full barrier on every architecture, which a store from
 * user space is not: everything written to the image before is visible to whoever reads
 * the new index. Run through BPF_PROG_TEST_RUN; returns the image that was active.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "wildcard.h"

WILDCARD_GROUP(group);

struct flip {
	__u32 image; /* to make active */
};

SEC("syscall")
int flip(struct flip *request)
{
	__u32 zero = 0;
	struct wildcard_group *g = bpf_map_lookup_elem(&group, &zero);

	return g ? __sync_lock_test_and_set(&g->active, request->image) : -1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
