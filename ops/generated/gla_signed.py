"""gla_signed: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)
  alpha = 2 * sigmoid(g0 + gk) - 1

In a chunk of C tokens with the incoming state S_in:
  D = alpha
  w = k
  q_ = K**-0.5 * q
  G[i] = D[1] * ... * D[i],  G[0] = 1
  A[i,j] = q_[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q_ * G) S_in
  S_out = G[C] * S_in + (w * G[C]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "gla_signed"
SPEC_HASH = "e81df874800e12bdd8dd704a2c4fb5791365d1d642d9cc8da281aca31fa48c0d"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("gk", ("K",)))
PARAMS = (("g0", ("K",)),)
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, gk, g0) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    alpha_1 = torch.add(0.5 * gk, g0[:, :, None], alpha=0.5)
    alpha = tiles.apply_(torch.tanh_, alpha_1)
    del alpha_1
    D = torch.where(valid[:, :, :, None] > 0, alpha, 1)
    del alpha
    k_scaled = valid[:, :, :, None] * k
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    G = tiles.running_product(D, 2, "prefix")
    qG = tiles.product_(q, G)
    del G
    G_after = tiles.running_product(D, 2, "suffix", exclusive=True)
    G_from = tiles.running_product(D, 2, "suffix")
    G_C = G_from[:, :, 0]
    del G_from
    k_G_after = tiles.product_(k, G_after)
    del G_after
    f1 = tiles.product_factors(D)
    A = tiles.decay_dot(q_, k_scaled, f1)
    del D, f1, k_scaled, q_
    k_G_after_scaled = tiles.scale_(k_G_after, valid[:, :, :, None])
    del k_G_after
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        qG_c,
        A_c,
        v_c,
        G_C_c,
        k_G_after_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            qG,
            A,
            v,
            G_C[:, :, :, None],
            k_G_after_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        o = scan.addmm(torch.bmm(A_c, v_c, out=o_rows.room(n)), qG_c, S, rsqrt_K)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_G_after_scaled_c, v_c)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del o_rows
    del G_C, k_G_after_scaled, qG
    return (o,), (S_end,), (S, A) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, gk, g0) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    alpha_1 = torch.add(0.5 * gk, g0[:, :, None], alpha=0.5)
    alpha = tiles.apply_(torch.tanh_, alpha_1)
    del alpha_1
    D = torch.where(valid[:, :, :, None] > 0, alpha, 1)
    del alpha
    k_scaled = valid[:, :, :, None] * k
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    G_after = tiles.running_product(D, 2, "suffix", exclusive=True)
    G_from = tiles.running_product(D, 2, "suffix")
    G_C = G_from[:, :, 0]
    del G_from
    k_G_after = k * G_after
    del G_after
    f1 = tiles.product_factors(D)
    A = tiles.decay_dot(q_, k_scaled, f1)
    del D, f1, k_scaled, q_
    k_G_after_scaled = tiles.scale_(k_G_after, valid[:, :, :, None])
    del k_G_after
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        G_C_c,
        k_G_after_scaled_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            G_C[:, :, :, None],
            k_G_after_scaled.mT,
            v,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, k_G_after_scaled_c, v_c)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del G_C, k_G_after_scaled
    return (), (S_end,), (S, A) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gk, g0) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, q_k_scaled) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    alpha_1 = torch.add(0.5 * gk, g0[:, :, None], alpha=0.5)
    alpha = tiles.apply_(torch.tanh_, alpha_1)
    del alpha_1
    D = torch.where(valid[:, :, :, None] > 0, alpha, 1)
    k_scaled = valid[:, :, :, None] * k
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    G = tiles.running_product(D, 2, "prefix")
    qG = tiles.product_(q, G)
    G_after = tiles.running_product(D, 2, "suffix", exclusive=True)
    G_from = tiles.running_product(D, 2, "suffix")
    G_C = G_from[:, :, 0]
    k_G_after = tiles.product_(k, G_after)
    dq_k_scaled = do @ v.mT
    f1 = tiles.product_factors(D)
    dq_, dk_scaled, dD_1 = tiles.decay_dot_grads(dq_k_scaled, q_, k_scaled, f1)
    del dq_k_scaled, f1
    dgk_1 = alpha * -1 * alpha + 1
    del alpha
    v_dS_rows = scan.Rows(steps, H, True)
    k_G_after_dS_rows = scan.Rows(steps, H, True)
    dG_C_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        k_G_after_c,
        S_c,
        do_c,
        S_c_2,
        G_C_c,
        qG_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k_G_after,
            S,
            do,
            S.mT,
            G_C[:, :, :, None],
            qG.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        v_dS = torch.bmm(v_c, dS.mT, out=v_dS_rows.room(n))
        k_G_after_dS = torch.bmm(k_G_after_c, dS, out=k_G_after_dS_rows.room(n))
        S_dS = S_c * dS
        dG_C = torch.sum(S_dS, 2, out=dG_C_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), qG_c, do_c, rsqrt_K)
        v_dS_rows.put(v_dS)
        k_G_after_dS_rows.put(k_G_after_dS)
        dG_C_rows.put(dG_C)
        do_S_rows.put(do_S)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    v_dS = v_dS_rows.joined()
    k_G_after_dS = k_G_after_dS_rows.joined()
    dG_C = dG_C_rows.joined()
    do_S = do_S_rows.joined()
    del v_dS_rows
    del k_G_after_dS_rows
    del dG_C_rows
    del do_S_rows
    del G_C, k_G_after, qG
    dG_from = tiles.at_first(dG_C, C)
    del dG_C
    dD_2 = tiles.running_product_grad(D, dG_from, 2, "suffix")
    del G_from, dG_from
    dk_1 = tiles.product(G_after, v_dS, valid[:, :, :, None])
    G_do_S = tiles.product(G, do_S, rsqrt_K)
    dk = torch.addcmul(dk_1, valid[:, :, :, None], dk_scaled)
    del dk_1, dk_scaled
    dq_scaled = dq_ * rsqrt_K
    del dq_
    dq = G_do_S + dq_scaled
    del G_do_S, dq_scaled
    dG_after = v_dS * k_scaled
    del k_scaled, v_dS
    dD_3 = tiles.running_product_grad(D, dG_after, 2, "suffix", exclusive=True)
    del G_after, dG_after
    dG = do_S * q_
    del do_S, q_
    dD_4 = tiles.running_product_grad(D, dG, 2, "prefix")
    del D, G, dG
    dD = dD_2 + dD_3 + dD_4 + dD_1
    del dD_1, dD_2, dD_3, dD_4
    dgk_2 = tiles.product_(dgk_1, dD)
    del dD, dgk_1
    dgk_3 = tiles.scale_(dgk_2, valid[:, :, :, None])
    del dgk_2
    dgk = dgk_3 * 0.5
    dg0_1 = dgk_3.sum(2)
    del dgk_3
    dg0 = dg0_1 * 0.5
    del dg0_1
    dv = tiles.addmm_(valid[:, :, :, None] * k_G_after_dS, q_k_scaled.mT, do)
    del k_G_after_dS
    return (dq, dk, dv, dgk, dg0), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, gk, g0) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    alpha_1 = torch.add(0.5 * gk, g0, alpha=0.5)
    alpha = torch.tanh(alpha_1)
    del alpha_1
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (alpha_c, S_new_1_c, q__c) in scan.each(steps, H, (alpha[:, :, :, None], S_new_1, q_)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        o = (q__c[..., None, :] @ S_new).squeeze(-2)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del o_rows
    del S_new_1, alpha, q_
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, gk, g0) = args
    H = h0[0].shape[1]
    alpha_1 = torch.add(0.5 * gk, g0, alpha=0.5)
    alpha = torch.tanh(alpha_1)
    del alpha_1
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (alpha_c, S_new_1_c) in scan.each(steps, H, (alpha[:, :, :, None], S_new_1)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del S_new_1, alpha
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, gk, g0) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    alpha_1 = torch.add(0.5 * gk, g0, alpha=0.5)
    alpha = torch.tanh(alpha_1)
    del alpha_1
    dq_1 = tiles.addcmul_(alpha[:, :, :, None] * S, k[:, :, :, None], v[:, :, None])
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    dq_ = (do[..., None, :] @ dq_1.mT).squeeze(-2)
    del dq_1
    dq = dq_ * rsqrt_K
    del dq_
    dg0_1 = alpha * -1 * alpha + 1
    dS_before_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    dS_before_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (dS_before_1_c, alpha_c) in scan.each(steps, H, (dS_before_1, alpha), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_2 = dS + dS_before_1_c
        dS_before = alpha_c[:, :, None] * dS_before_2
        dS_before_2_rows.put(dS_before_2)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_2 = dS_before_2_rows.joined()
    del dS_before_2_rows
    del alpha, dS_before_1
    dk_1 = v[:, :, None] * dS_before_2
    dv_1 = k[:, :, :, None] * dS_before_2
    dk = dk_1.sum(3)
    del dk_1
    dv = dv_1.sum(2)
    del dv_1
    dalpha_1 = S * dS_before_2
    del dS_before_2
    dalpha = dalpha_1.sum(3)
    del dalpha_1
    dg0 = dalpha * dg0_1 * 0.5
    del dalpha, dg0_1
    return (dq, dk, dv, dg0, dg0), (dS_end,)
