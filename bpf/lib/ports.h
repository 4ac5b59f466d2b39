/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a packet came in and where it goes out, as interface indices; 0 where there is none.
 *
 * A packet that a bridge hands up to be routed has the bridge as its incoming interface. The bridge
 * port then stands in what bridge-netfilter keeps with the packet.
 */
#ifndef LIB_PORTS_H
#define LIB_PORTS_H

static __always_inline __u32 bridge_port(struct sk_buff *skb)
{
	const struct nf_bridge_info *info;
	const struct skb_ext *extensions;
	__u8 chunk = 0;
	int ifindex = 0;
	__u32 id;

	if (!bpf_core_field_exists(struct sk_buff, extensions) ||
	    !bpf_core_field_exists(struct nf_bridge_info, physinif))
		return 0;
	id = bpf_core_enum_value(enum skb_ext_id, SKB_EXT_BRIDGE_NF);
	if (!(skb->active_extensions & (1U << id)))
		return 0;
	extensions = skb->extensions;
	bpf_probe_read_kernel(&chunk, sizeof(chunk), &extensions->offset[id]);
	info = (const void *)extensions + (__u32)chunk * 8;
	bpf_probe_read_kernel(&ifindex, sizeof(ifindex), &info->physinif);
	return ifindex;
}

/* The pod's interface where the packet came in, NULL where it is no pod's. */
static __always_inline const struct interface *incoming_port(struct sk_buff *skb, __u32 snapshot)
{
	const struct interface *port = pod_port(snapshot, skb->skb_iif);

	return port ?: pod_port(snapshot, bridge_port(skb));
}

#endif /* LIB_PORTS_H */
