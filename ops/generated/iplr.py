"""iplr: generated from its spec by rnnc; do not edit.

S[t] = S[t-1] + b @ (S[t-1].T @ a).T + k @ v.T
o[t] = K**-0.5 * (S[t].T @ q)

In a chunk of C tokens with the incoming state S_in:
  w1 = b,  f1 = a
  w2 = k,  v_2 = v
  q_ = K**-0.5 * q
  P[i,j] = f[i]^T w[j],  j < i
  U = (I - P_rr)^-1 (f S_in + P_rp v_p)
  _r are the writes that read, _p those that do not: there U = v_
  A[i,j] = q_[i]^T w[j],  j <= i
  r = A U + q_ S_in
  S_out = S_in + w^T U
"""

import torch

from rnnc.ops import scan, tiles

NAME = "iplr"
SPEC_HASH = "8f14e52706863efd7c3a560dcf7acc47bd8e3f8dc7f987b251e7bfcdb6b51e6d"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ("K",)), ("b", ("K",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    b_scaled = valid[:, :, :, None] * b_
    k_scaled = valid[:, :, :, None] * k
    ak = a_ @ k.mT
    ak_scaled = valid[:, :, None] * ak
    P_rp = ak_scaled.tril(-1)
    del ak_scaled
    ab = a_ @ b_.mT
    P = tiles.scale_(ab, valid[:, :, None])
    del ab
    rsqrt_K = (K) ** -0.5
    qb = q @ b_.mT
    qk = q @ k.mT
    inv = tiles.inverse(P)
    del P
    valid_scaled = valid * rsqrt_K
    qb_scaled = valid_scaled[:, :, None] * qb
    A_2 = qb_scaled.tril(0)
    del qb_scaled
    qk_scaled = valid_scaled[:, :, None] * qk
    del valid_scaled
    A = qk_scaled.tril(0)
    del qk_scaled
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a__c,
        P_rp_c,
        v_c,
        inv_c,
        q_c,
        A_c,
        A_2_c,
        k_scaled_c,
        b_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            a_,
            P_rp,
            v,
            inv,
            q,
            A,
            A_2,
            k_scaled.mT,
            b_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = scan.addmm(torch.bmm(a__c, S), P_rp_c, v_c)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        o = scan.addmm(torch.bmm(A_c, v_c, out=o_rows.room(n)), A_2_c, U)
        o = scan.addmm(o, q_c, S, rsqrt_K)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = scan.addmm(scan.addmm(S_new, k_scaled_c, v_c), b_scaled_c, U)
        if keep:
            U_rows.put(U)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
        U = U_rows.joined()
    del S_rows
    del U_rows
    del o_rows
    del A, A_2, P_rp, b_scaled, k_scaled
    return (o,), (S_end,), (S, ak, qb, qk, inv, U) if keep else None


chunked_forward.by_step = (2,)


def chunked_states(args, valid, h0, steps, keep):
    (q, k, v, a_, b_) = args
    H = h0[0].shape[1]
    b_scaled = valid[:, :, :, None] * b_
    k_scaled = valid[:, :, :, None] * k
    ak = a_ @ k.mT
    ak_scaled = valid[:, :, None] * ak
    P_rp = ak_scaled.tril(-1)
    del ak_scaled
    ab = a_ @ b_.mT
    P = tiles.scale_(ab, valid[:, :, None])
    del ab
    qb = q @ b_.mT
    qk = q @ k.mT
    inv = tiles.inverse(P)
    del P
    S_rows = scan.Rows(steps, H)
    U_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        a__c,
        P_rp_c,
        v_c,
        inv_c,
        k_scaled_c,
        b_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            a_,
            P_rp,
            v,
            inv,
            k_scaled.mT,
            b_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        U_1 = scan.addmm(torch.bmm(a__c, S), P_rp_c, v_c)
        U = torch.bmm(inv_c, U_1, out=U_rows.room(n))
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = scan.addmm(scan.addmm(S_new, k_scaled_c, v_c), b_scaled_c, U)
        if keep:
            U_rows.put(U)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
        U = U_rows.joined()
    del S_rows
    del U_rows
    del P_rp, b_scaled, k_scaled
    return (), (S_end,), (S, ak, qb, qk, inv, U) if keep else None


chunked_states.by_step = (2,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, ak, qb, qk, inv, U) = kept
    (do,) = douts
    K = q.shape[3]
    H = h0[0].shape[1]
    ak_scaled = valid[:, :, None] * ak
    P_rp = ak_scaled.tril(-1)
    del ak_scaled
    rsqrt_K = (K) ** -0.5
    dqk_scaled_lower = do @ v.mT
    dqk_scaled = dqk_scaled_lower.tril(0)
    del dqk_scaled_lower
    dqk_scaled_scaled = valid[:, :, None] * dqk_scaled
    dq_1 = dqk_scaled_scaled @ k
    del dqk_scaled_scaled
    dqb_scaled_lower = do @ U.mT
    dqb_scaled = dqb_scaled_lower.tril(0)
    del dqb_scaled_lower
    dqb_scaled_scaled = valid[:, :, None] * dqb_scaled
    dq_2 = dqb_scaled_scaled @ b_
    del dqb_scaled_scaled
    valid_scaled = valid * rsqrt_K
    valid_scaled_2 = valid * rsqrt_K
    qb_scaled = valid_scaled_2[:, :, None] * qb
    qb_scaled_lower = qb_scaled.tril(0)
    del qb_scaled
    qk_scaled = valid_scaled_2[:, :, None] * qk
    del valid_scaled_2
    qk_scaled_lower = qk_scaled.tril(0)
    del qk_scaled
    dqk_scaled_scaled_2 = valid_scaled[:, :, None] * dqk_scaled
    del dqk_scaled
    dqb_scaled_scaled_2 = valid_scaled[:, :, None] * dqb_scaled
    del dqb_scaled, valid_scaled
    b_scaled = valid[:, :, :, None] * b_
    dk_scaled_rows = scan.Rows(steps, H, True)
    k_dS_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    db_scaled_rows = scan.Rows(steps, H, True)
    da_2_rows = scan.Rows(steps, H, True)
    da_3_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        b_scaled_c,
        qb_scaled_lower_c,
        do_c,
        inv_c,
        v_c,
        k_c,
        U_c,
        S_c,
        q_c,
        a__c,
    ) in scan.each(
        steps,
        H,
        (
            b_scaled,
            qb_scaled_lower.mT,
            do,
            inv.mT,
            v,
            k,
            U,
            S.mT,
            q.mT,
            a_.mT,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        da_1 = scan.addmm(torch.bmm(b_scaled_c, dS), qb_scaled_lower_c, do_c)
        da_2 = torch.bmm(inv_c, da_1, out=da_2_rows.room(n))
        dk_scaled = torch.bmm(v_c, dS.mT, out=dk_scaled_rows.room(n))
        k_dS = torch.bmm(k_c, dS, out=k_dS_rows.room(n))
        db_scaled = torch.bmm(U_c, dS.mT, out=db_scaled_rows.room(n))
        do_S = torch.bmm(do_c, S_c, out=do_S_rows.room(n))
        da_3 = torch.bmm(da_2, S_c, out=da_3_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, 1, own), a__c, da_2)
        dS_before = scan.addmm(dS_before, q_c, do_c, rsqrt_K)
        dk_scaled_rows.put(dk_scaled)
        k_dS_rows.put(k_dS)
        do_S_rows.put(do_S)
        db_scaled_rows.put(db_scaled)
        da_2_rows.put(da_2)
        da_3_rows.put(da_3)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dk_scaled = dk_scaled_rows.joined()
    k_dS = k_dS_rows.joined()
    do_S = do_S_rows.joined()
    db_scaled = db_scaled_rows.joined()
    da_2 = da_2_rows.joined()
    da_3 = da_3_rows.joined()
    del dk_scaled_rows
    del k_dS_rows
    del do_S_rows
    del db_scaled_rows
    del da_2_rows
    del da_3_rows
    del b_scaled, qb_scaled_lower
    dq_3 = dq_1 * rsqrt_K
    del dq_1
    do_S_scaled = do_S * rsqrt_K
    del do_S
    dq_4 = dq_2 * rsqrt_K
    del dq_2
    dq = dq_3 + do_S_scaled + dq_4
    del do_S_scaled, dq_3, dq_4
    da_4 = da_2 @ v.mT
    da_5 = da_4.tril(-1)
    del da_4
    da_6 = valid[:, :, None] * da_5
    dk_1 = valid[:, :, None] * da_5
    del da_5
    dv = tiles.addmm_(valid[:, :, :, None] * k_dS, qk_scaled_lower.mT, do)
    dv = tiles.addmm_(dv, P_rp.mT, da_2)
    del P_rp, k_dS, qk_scaled_lower
    dk = tiles.addmm_(valid[:, :, :, None] * dk_scaled, dqk_scaled_scaled_2.mT, q)
    dk = tiles.addmm_(dk, dk_1.mT, a_)
    del dk_1, dk_scaled, dqk_scaled_scaled_2
    da_7 = da_2 @ U.mT
    del da_2
    da_8 = da_7.tril(-1)
    del da_7
    da_9 = valid[:, :, None] * da_8
    db_1 = valid[:, :, None] * da_8
    del da_8
    db = tiles.addmm_(valid[:, :, :, None] * db_scaled, dqb_scaled_scaled_2.mT, q)
    db = tiles.addmm_(db, db_1.mT, a_)
    del db_1, db_scaled, dqb_scaled_scaled_2
    da = tiles.addmm_(da_3 + da_6 @ k, da_9, b_)
    del da_3, da_6, da_9
    return (dq, dk, dv, da, db), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (a__c, b__c, S_new_1_c, q__c) in scan.each(steps, H, (a_, b_[:, :, :, None], S_new_1, q_)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        u = (a__c[..., None, :] @ S).squeeze(-2)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new + S_new_1_c, b__c, u[:, None])
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
    del S_new_1, q_
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_) = args
    H = h0[0].shape[1]
    S_new_1 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (a__c, b__c, S_new_1_c) in scan.each(steps, H, (a_, b_[:, :, :, None], S_new_1)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        u = (a__c[..., None, :] @ S).squeeze(-2)
        S_new = scan.scale(S, 1, own, S_rows if keep else None)
        S_new = tiles.addcmul_(S_new + S_new_1_c, b__c, u[:, None])
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del S_new_1
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    u = (a_[..., None, :] @ S).squeeze(-2)
    dq_1 = torch.addcmul(S, b_[:, :, :, None], u[:, :, None])
    dq_1 = tiles.addcmul_(dq_1, k[:, :, :, None], v[:, :, None])
    rsqrt_K = (K) ** -0.5
    q_ = q * rsqrt_K
    dq_ = (do[..., None, :] @ dq_1.mT).squeeze(-2)
    del dq_1
    dq = dq_ * rsqrt_K
    del dq_
    dS_before_1 = do[:, :, None] * q_[:, :, :, None]
    del q_
    dk_1_rows = scan.Rows(steps, H, True)
    du_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        dS_before_1_c,
        b__c,
        a__c,
    ) in scan.each(
        steps,
        H,
        (
            dS_before_1,
            b_,
            a_[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dk_1 = dS + dS_before_1_c
        du_1 = b__c[:, :, None] * dk_1
        du = torch.sum(du_1, 1, out=du_rows.room(n))
        dS_before = tiles.addcmul_(scan.scale(dS, 1, own) + dS_before_1_c, a__c, du[:, None])
        dk_1_rows.put(dk_1)
        du_rows.put(du)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dk_1 = dk_1_rows.joined()
    du = du_rows.joined()
    del dk_1_rows
    del du_rows
    del dS_before_1
    dk_2 = v[:, :, None] * dk_1
    dv_1 = k[:, :, :, None] * dk_1
    dk = dk_2.sum(3)
    del dk_2
    dv = dv_1.sum(2)
    del dv_1
    db_1 = u[:, :, None] * dk_1
    del dk_1, u
    db = db_1.sum(3)
    del db_1
    da = (du[..., None, :] @ S.mT).squeeze(-2)
    del du
    return (dq, dk, dv, da, db), (dS_end,)
