/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* For programs on packets of sockets. Who includes it has head, data and transport_header of struct sk_buff. */
#ifndef VIGIE_TRANSPORT_H
#define VIGIE_TRANSPORT_H

/* Where the transport header lies, as the kernel found it: an IPv6 packet can have any number of headers before it. The
 * context is the kernel's own packet. */
static __always_inline u32 transport_of(struct __sk_buff *skb)
{
	unsigned char *head = 0, *data = 0;
	u16 transport = 0;

	bpf_probe_read_kernel(&transport, sizeof(transport), (void *)skb + bpf_core_field_offset(struct sk_buff, transport_header));
	bpf_probe_read_kernel(&head, sizeof(head), (void *)skb + bpf_core_field_offset(struct sk_buff, head));
	bpf_probe_read_kernel(&data, sizeof(data), (void *)skb + bpf_core_field_offset(struct sk_buff, data));
	return (u32)((u64)head + transport - (u64)data);
}

#endif
