/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ethernet and VLAN tags: finds what a frame carries, and where. */
#ifndef LIB_ETHERNET_H
#define LIB_ETHERNET_H

#define VLAN_TAGS 4
#define ETHERNET_UNREADABLE -1 /* truncated, or more tags than anybody uses */

struct vlan_tag {
	__be16 control;
	__be16 ethertype;
};

/* The ethertype behind all tags, in network order; `offset` becomes that of what it announces. */
static __always_inline int parse_ethernet(const struct bpf_dynptr *data, __u32 *offset)
{
	struct vlan_tag tag_buffer, *tag;
	struct ethhdr buffer, *frame;
	__be16 ethertype;
	int i;

	frame = bpf_dynptr_slice(data, 0, &buffer, sizeof(buffer));
	if (!frame)
		return ETHERNET_UNREADABLE;
	ethertype = frame->h_proto;
	*offset = sizeof(*frame);
	for (i = 0; i <= VLAN_TAGS; i++) {
		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD) &&
		    ethertype != bpf_htons(ETH_P_QINQ1))
			return ethertype;
		tag = bpf_dynptr_slice(data, *offset, &tag_buffer, sizeof(tag_buffer));
		if (!tag)
			break;
		ethertype = tag->ethertype;
		*offset += sizeof(*tag);
	}
	return ETHERNET_UNREADABLE;
}

#endif /* LIB_ETHERNET_H */
