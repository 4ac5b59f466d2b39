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

/* The interface of a pod, NULL where it is no pod's. */
static __always_inline const struct interface *pod_port(__u32 snapshot, __u32 ifindex)
{
	const struct interface *interface = interface_of(snapshot, ifindex);

	return interface && interface->pod.pod ? interface : NULL;
}

static __always_inline bool is_address_of(const union address *address,
					  const struct interface *port, bool v6)
{
	if (!v6)
		return address->v4 == port->v4;
	return same_address(address, (const union address *)&port->v6, true);
}

enum whose {
	WHOSE_KNOWN,
	WHOSE_UNKNOWN, /* an address that nothing is known of */
	WHOSE_FORGED,
};

/* Who sent the packet, into `from`. `port` is the pod's interface where it came in, or NULL. */
static __always_inline enum whose sender(__u32 snapshot, const struct packet *packet, bool v6,
					 const struct interface *port, struct endpoint *from)
{
	const struct endpoint *known;

	if (port && is_address_of(&packet->saddr, port, v6)) {
		*from = port->pod;
		return WHOSE_KNOWN;
	}
	known = endpoint_of(snapshot, &packet->saddr, v6);
	if (port && (!known || known->pod != port->pod.pod)) {
		/* Every pod has such addresses, and no table could say whose they are. */
		if (known ||
		    (!is_link_local(&packet->saddr, v6) && !is_unspecified(&packet->saddr, v6)))
			return WHOSE_FORGED;
		*from = port->pod;
		return WHOSE_KNOWN;
	}
	if (!known)
		return WHOSE_UNKNOWN;
	*from = *known;
	return WHOSE_KNOWN;
}

/* Whom the packet is for, into `to`. `port` is the pod's interface where it goes out, or NULL. */
static __always_inline enum whose receiver(__u32 snapshot, const struct packet *packet, bool v6,
					   const struct interface *port, struct endpoint *to)
{
	const struct endpoint *known;

	if (port && is_address_of(&packet->daddr, port, v6)) {
		*to = port->pod;
		return WHOSE_KNOWN;
	}
	known = endpoint_of(snapshot, &packet->daddr, v6);
	if (port && (!known || known->pod != port->pod.pod)) {
		*to = port->pod;
		return WHOSE_KNOWN;
	}
	if (!known)
		return WHOSE_UNKNOWN;
	*to = *known;
	return WHOSE_KNOWN;
}

#endif /* LIB_ENDS_H */
