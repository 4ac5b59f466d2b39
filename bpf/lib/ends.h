/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose packet it is, and whom it is for.
 *
 * A pod's interface proves who sent a packet, an address only claims it. So a packet that came in
 * at a pod's interface must carry an address of that pod, and what goes out at a pod's interface is
 * that pod's, whatever address is on it. Where no pod's interface is involved, the address decides.
 */
#ifndef LIB_ENDS_H
#define LIB_ENDS_H

static __always_inline void mapped_address(const union address *address, bool v6,
					   struct address_elem *key)
{
	if (v6) {
		key->address = address->v6;
		return;
	}
	key->address.in6_u.u6_addr32[0] = 0;
	key->address.in6_u.u6_addr32[1] = 0;
	key->address.in6_u.u6_addr32[2] = bpf_htonl(0xffff);
	key->address.in6_u.u6_addr32[3] = address->v4;
}

/* NULL where nothing is known of the address. */
static __always_inline const struct endpoint *endpoint_of(__u32 snapshot,
							  const union address *address, bool v6)
{
	struct address_elem key;
	struct addresses_row *row;

	mapped_address(address, v6, &key);
	row = wildcard_lookup(addresses, snapshot, &key, 0);
	if (!row)
		return NULL;
	/* Else clang computes the member's address before the check, which the verifier refuses. */
	barrier_var(row);
	return &row->value;
}

static __always_inline bool is_unknown_pod(__u32 snapshot, const union address *address, bool v6)
{
	struct address_elem key;

	mapped_address(address, v6, &key);
	return wildcard_lookup(unknown, snapshot, (struct range_elem *)&key, 0);
}

static __always_inline const struct interface *interface_of(__u32 snapshot, __u32 ifindex)
{
	struct port_elem key = { .ifindex = ifindex };
	struct interfaces_row *row;

	if (!ifindex)
		return NULL;
	row = wildcard_lookup(interfaces, snapshot, &key, 0);
	if (!row)
		return NULL;
	barrier_var(row);
	return &row->value;
}

/* The pod behind an interface, NULL where it is no pod's. */
static __always_inline const struct endpoint *pod_behind(__u32 snapshot, __u32 ifindex)
{
	const struct interface *interface = interface_of(snapshot, ifindex);

	if (!interface || !interface->pod.pod)
		return NULL;
	return &interface->pod;
}

enum whose {
	WHOSE_KNOWN,
	WHOSE_UNKNOWN, /* an address that nothing is known of */
	WHOSE_FORGED,
};

/* Who sent the packet, into `from`. `port` is the pod behind the interface where it came in, or
 * NULL. */
static __always_inline enum whose sender(__u32 snapshot, const struct packet *packet, bool v6,
					 const struct endpoint *port, struct endpoint *from)
{
	const struct endpoint *known = endpoint_of(snapshot, &packet->saddr, v6);

	if (port && (!known || known->pod != port->pod)) {
		/* Every pod has such addresses, and no table could say whose they are. */
		if (known ||
		    (!is_link_local(&packet->saddr, v6) && !is_unspecified(&packet->saddr, v6)))
			return WHOSE_FORGED;
		known = port;
	}
	if (!known)
		return WHOSE_UNKNOWN;
	*from = *known;
	return WHOSE_KNOWN;
}

/* Whom the packet is for, into `to`. `port` is the pod behind the interface where it goes out, or
 * NULL. */
static __always_inline enum whose receiver(__u32 snapshot, const struct packet *packet, bool v6,
					   const struct endpoint *port, struct endpoint *to)
{
	const struct endpoint *known = endpoint_of(snapshot, &packet->daddr, v6);

	if (port && (!known || known->pod != port->pod))
		known = port;
	if (!known)
		return WHOSE_UNKNOWN;
	*to = *known;
	return WHOSE_KNOWN;
}

#endif /* LIB_ENDS_H */
