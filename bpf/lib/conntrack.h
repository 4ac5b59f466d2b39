/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's connection tracking, as it classified a packet before it reached us.
 *
 * The state is in the low bits of skb->_nfct; the offset comes from the running kernel's BTF. A
 * packet without state, or marked "notrack", is judged as a new one: 0 would otherwise read as
 * "established".
 */
#ifndef LIB_CONNTRACK_H
#define LIB_CONNTRACK_H

#define CONNTRACK_INFO 7UL /* ~NFCT_PTRMASK */

enum connection {
	CONNECTION_NEW,
	CONNECTION_ORIGINAL, /* a later packet of the direction that began */
	CONNECTION_REPLY,
	CONNECTION_RELATED,
	CONNECTION_UNTRACKED,
};

static __always_inline enum connection connection_state(const struct sk_buff *skb)
{
	unsigned long tracked;

	if (!bpf_core_field_exists(struct sk_buff, _nfct))
		return CONNECTION_UNTRACKED;
	tracked = skb->_nfct;
	if (!(tracked & ~CONNTRACK_INFO))
		return CONNECTION_UNTRACKED;
	switch (tracked & CONNTRACK_INFO) {
	case IP_CT_ESTABLISHED:
		return CONNECTION_ORIGINAL;
	case IP_CT_ESTABLISHED_REPLY:
		return CONNECTION_REPLY;
	case IP_CT_RELATED:
	case IP_CT_RELATED_REPLY:
		return CONNECTION_RELATED;
	case IP_CT_NEW:
		return CONNECTION_NEW;
	default:
		return CONNECTION_UNTRACKED;
	}
}

#endif /* LIB_CONNTRACK_H */
