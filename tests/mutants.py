"""Break the equations of the module on purpose, one at a time: a named test must notice each.

`make mutants` writes what happened to data/results/mutants.json, which the book shows. General
tools (mutmut, cosmic-ray) change operators and constants one by one: thousands of mutants of this
module, most of them in checks and messages, and none that drops a term or sums over the wrong
axis. Here every mutant is a mistake that someone could make in an equation of the book.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from companion.passport import commit
from companion.paths import ROOT
from companion.results import of_mutant, read, report, source_of


class Mutant(NamedTuple):
    """old becomes new in code/tripartite/MODULE.py; kind and chapter say what and where it is."""

    module: str
    kind: str  # sign | dropped term | time | axis | normalisation | constant
    chapter: int
    mistake: str
    old: str
    new: str
    test: str  # file::name, without test_


MUTANTS = [
    # attention
    Mutant("attention", "normalisation", 1, "softmax without the normaliser of the shifted scores",
           "return top + xp.log(xp.sum(xp.exp(s - top), axis=-1, keepdims=True))", "return top",
           "attention::softmax_attention_is_scipys_softmax_of_the_scores"),
    Mutant("attention", "axis", 1, "the normaliser sums over queries instead of keys",
           "xp.log(xp.sum(xp.exp(s - top), axis=-1, keepdims=True))",
           "xp.log(xp.sum(xp.exp(s - top), axis=-2, keepdims=True))",
           "attention::softmax_attention_is_scipys_softmax_of_the_scores"),
    Mutant("attention", "sign", 1, "keys repel queries", "s = xp.matmul(queries, xp.matrix_transpose(keys))",
           "s = -xp.matmul(queries, xp.matrix_transpose(keys))",
           "attention::softmax_attention_is_scipys_softmax_of_the_scores"),
    Mutant("attention", "time", 3, "a causal token does not see itself",
           "dtype=xp.bool), k=i - t)", "dtype=xp.bool), k=i - t - 1)",
           "attention::softmax_attention_is_scipys_softmax_of_the_scores"),
    Mutant("attention", "time", 3, "a causal token sees the next one",
           "dtype=xp.bool), k=i - t)", "dtype=xp.bool), k=i - t + 1)",
           "attention::causal_token_ignores_the_future"),
    Mutant("attention", "normalisation", 2, "kernel attention is not divided by the sum of the kernel",
           "xp.matmul(kernel, values) / xp.sum(kernel, axis=-1, keepdims=True)", "xp.matmul(kernel, values)",
           "attention::kernel_attention_with_the_exponential_kernel_is_softmax_attention"),
    Mutant("attention", "axis", 2, "kernel attention divides by the sum over queries",
           "/ xp.sum(kernel, axis=-1, keepdims=True)", "/ xp.sum(kernel, axis=-2)[..., :, None]",
           "attention::kernel_attention_with_the_exponential_kernel_is_softmax_attention"),
    Mutant("attention", "time", 3, "fewer queries than keys are those of the first tokens", "xp.tril(xp.ones((t, i), dtype=xp.bool), k=i - t)",
           "xp.tril(xp.ones((t, i), dtype=xp.bool))", "attention::fewer_queries_than_keys_are_the_last_ones"),
    # features
    Mutant("features", "sign", 2, "the positive curve grows with the norm of the token",
           "return Activity(drive, 1.0, -half_square)", "return Activity(drive, 1.0, half_square)",
           "features::tuning_curves_follow_their_definitions"),
    Mutant("features", "dropped term", 2, "the positive curve without |x|^2/2",
           "return Activity(drive, 1.0, -half_square)", "return Activity(drive, 1.0)",
           "features::tuning_curves_follow_their_definitions"),
    Mutant("features", "normalisation", 2, "|x|^2 in place of |x|^2/2", "half_square = 0.5 * xp.sum(x * x, axis=-1, keepdims=True)\n        exponent",
           "half_square = xp.sum(x * x, axis=-1, keepdims=True)\n        exponent",
           "features::inner_products_are_unbiased_with_the_variance_that_theory_gives"),
    Mutant("features", "normalisation", 2, "features divided by m, not by its root",
           "gain - 0.5 * math.log(self.n_neurons)", "gain - math.log(self.n_neurons)",
           "features::inner_products_are_unbiased_with_the_variance_that_theory_gives"),
    Mutant("features", "normalisation", 2, "cosine tuning without the factor sqrt(2)",
           "math.sqrt(2.0) * xp.cos(drive + phase)", "xp.cos(drive + phase)",
           "features::inner_products_are_unbiased_with_the_variance_that_theory_gives"),
    Mutant("features", "dropped term", 2, "cosine tuning without its phase",
           "xp.cos(drive + phase)", "xp.cos(drive + 0.0 * phase)", "features::tuning_curves_follow_their_definitions"),
    Mutant("features", "constant", 2, "phases over half the circle only",
           "for_phases.uniform(0.0, 2.0 * math.pi, n_neurons)", "for_phases.uniform(0.0, math.pi, n_neurons)",
           "features::phases_cover_the_whole_circle"),
    Mutant("features", "dropped term", 2, "the first-order curve without its constant",
           "1.0 + drive - half_square", "drive - half_square", "features::tuning_curves_follow_their_definitions"),
    Mutant("features", "sign", 2, "the clipped curve saturates from below",
           "xp.clip(drive, None, math.log(ceiling))", "xp.clip(drive, math.log(ceiling), None)",
           "features::tuning_curves_follow_their_definitions"),
    Mutant("features", "normalisation", 2, "orthogonal directions all of one length",
           "lengths = np.sqrt(rng.chisquare(d_key, n_neurons))", "lengths = np.full(n_neurons, np.sqrt(d_key))",
           "features::orthogonal_directions_are_orthogonal_within_groups_and_normal_alone"),
    Mutant("features", "sign", 2, "rotations keep the signs of the factorisation (not uniform)",
           "rotation *= np.sign(np.diagonal(triangle, axis1=-2, axis2=-1))[:, None, :]", "pass",
           "features::haar_rotations_have_no_preferred_direction"),
    Mutant("features", "axis", 3, "the exact features are whitened by the transposed factor",
           "xp.matmul(bumps, xp.matrix_transpose(self.whitening))", "xp.matmul(bumps, self.whitening)",
           "features::finite_set_is_the_exponential_kernel_on_its_points"),
    Mutant("features", "dropped term", 2, "the keys of a query err independently of each other",
           "xp.sum(xp.matmul(b, gram) * b, axis=-1)", "xp.sum(b * b, axis=-1)",
           "features::variance_of_the_response_is_that_of_drawn_populations"),
    Mutant("features", "sign", 2, "cosine neurons are at their worst where positive ones are",
           'sign = 1.0 if kind == "positive" else -1.0', "sign = 1.0",
           "features::variance_of_one_key_is_that_of_the_kernel"),
    Mutant("features", "dropped term", 4, "the output errs as its numerator does: nothing cancels in the division",
           "apart = values[..., None, :, :] - outputs[..., :, None, :]",
           "apart = values[..., None, :, :] - 0.0 * outputs[..., :, None, :]",
           "features::an_output_that_cannot_err_has_no_variance"),
    Mutant("features", "constant", 13, "the variance of spread directions with the whole logarithm in place of its half",
           "xp.log(spread) - 0.5 * xp.log(2.0 * spread - 1.0)", "xp.log(spread) - xp.log(2.0 * spread - 1.0)",
           "features::directions_of_another_spread_have_the_variance_of_the_integral"),
    # network
    Mutant("network", "normalisation", 3, "the astrocyte does not divide", "return self.drive / self.pooled[..., None]",
           "return self.drive", "network::network_is_kernel_attention_for_every_tuning_curve"),
    Mutant("network", "sign", 3, "Hebbian weights are weakened by coincidence", "Memory(memory.phi, sums[..., :-1, :], sums[..., -1, :], top)",
           "Memory(memory.phi, -sums[..., :-1, :], sums[..., -1, :], top)", "network::memory_holds_the_papers_weights"),
    Mutant("network", "dropped term", 3, "H is overwritten by the last tokens", "a.hebbian * of_a[..., None, :] + b.hebbian * of_b[..., None, :]",
           "b.hebbian * of_b[..., None, :]", "network::writing_in_pieces_is_writing_at_once"),
    Mutant("network", "dropped term", 3, "g is overwritten by the last tokens", "a.astrocytic * of_a + b.astrocytic * of_b",
           "b.astrocytic * of_b", "network::writing_in_pieces_is_writing_at_once"),
    Mutant("network", "normalisation", 3, "g is the mean over tokens, not the sum", "Memory(memory.phi, sums[..., :-1, :], sums[..., -1, :], top)",
           "Memory(memory.phi, sums[..., :-1, :], sums[..., -1, :] / hidden.shape[-2], top)",
           "network::memory_holds_the_papers_weights"),
    Mutant("network", "dropped term", 3, "old weights are not brought to the new scale", "of_a, of_b = xp.exp(a.log_scale - shared), xp.exp(b.log_scale - shared)",
           "of_a = of_b = xp.ones_like(shared)", "network::writing_in_pieces_is_writing_at_once"),
    Mutant("network", "dropped term", 3, "the response forgets its scale", "return xp.where(sound, log + self.log_scale, xp.nan)",
           "return xp.where(sound, log, xp.nan)", "network::network_is_softmax_attention_where_the_kernel_is_exact"),
    Mutant("network", "dropped term", 3, "only the last block of neurons reaches the astrocyte", "a.pooled * of_a + b.pooled * of_b",
           "b.pooled * of_b", "network::network_is_kernel_attention_for_every_tuning_curve"),
    Mutant("network", "sign", 3, "blocks are pooled with inverted scales", "xp.exp(a.log_scale - top), xp.exp(b.log_scale - top)",
           "xp.exp(top - a.log_scale), xp.exp(top - b.log_scale)", "network::blocks_pool_however_far_their_scales_lie_apart"),
    Mutant("network", "time", 3, "a causal token does not read itself", "xp.where(causal_mask(pairs), scale, -xp.inf)",
           "xp.where(xp.tril(xp.ones(pairs.shape[-2:], dtype=xp.bool), k=-1), scale, -xp.inf)",
           "network::network_is_kernel_attention_for_every_tuning_curve"),
    Mutant("network", "time", 3, "a chunk reads what it has itself written as well", "steps.append(pool(inside, _read_at_once(memory, q)) if steps or before else inside)\n            memory = _write_at_once(memory, k, terms[..., now, :])",
           "memory = _write_at_once(memory, k, terms[..., now, :])\n            steps.append(pool(inside, _read_at_once(memory, q)) if steps or before else inside)",
           "network::a_stream_in_chunks_is_the_stream_token_by_token"),
    Mutant("network", "dropped term", 3, "a chunk reads only itself", "both = pool(inside, _reading(earlier, xp.stack(tops, axis=-1)[..., None, None]))", "both = inside",
           "network::a_stream_in_chunks_is_the_stream_token_by_token"),
    Mutant("network", "time", 3, "a chunk reads itself twice", "sums, top = before.pop(), tops.pop()",
           "sums, top, before, tops = before[-1], tops[-1], before[1:], tops[1:]",
           "network::a_stream_in_chunks_is_the_stream_token_by_token"),
    Mutant("network", "normalisation", 3, "later chunks are written at another scale than earlier ones", "kept = xp.exp(xp.stack(tops[:-1], axis=-1) - higher)[..., None, None]",
           "kept = xp.ones_like(higher)[..., None, None]",
           "network::a_stream_in_chunks_is_the_stream_token_by_token"),
    Mutant("network", "normalisation", 3, "one scale a token serves all neurons however far they lie apart", "return bool(known(xp.all(spread < limit)))", "return True",
           "network::tokens_that_outgrow_one_scale_are_read_exactly"),
    Mutant("network", "time", 3, "the last block of neurons is left out", "range(0, phi.size, block)", "range(0, phi.size - 1, block)",
           "network::network_is_kernel_attention_for_any_sizes"),
    Mutant("network", "time", 3, "a token that is left over after full spans is lost", "range(0, tokens, size)", "range(0, tokens - 1, size)",
           "network::long_contexts_are_worked_on_a_span_at_a_time"),
    Mutant("network", "dropped term", 3, "every span of tokens is written into a blank memory", "memory = _write_at_once(memory, activity, _terms(values, weights, now))\n    return memory",
           "written = _write_at_once(memory, activity, _terms(values, weights, now))\n    return written",
           "network::long_contexts_are_worked_on_a_span_at_a_time"),
    Mutant("network", "dropped term", 3, "the astrocyte takes no notice of a token's weight", "terms if weights is None else terms * weights[..., now, None]",
           "terms if weights is None else xp.concat([v * weights[..., now, None], terms[..., -1:]], axis=-1)",
           "network::weights_say_how_strongly_each_token_is_written"),
    Mutant("network", "normalisation", 3, "tokens that are not written set the scale of the others", "xp.where(weights[..., None] > 0, keys, xp.zeros_like(keys))",
           "keys", "network::padding_leaves_no_trace"),
    Mutant("network", "time", 3, "later queries do not read what was written before them", "if steps or before else inside)", "if steps else inside)",
           "network::later_queries_read_what_the_whole_stream_reads"),
    # encoder
    Mutant("encoder", "normalisation", 1, "queries and keys are divided by d^(1/2) each", "scale = queries.shape[-1] ** 0.25",
           "scale = queries.shape[-1] ** 0.5", "encoder::scaled_score_is_q_dot_k_over_root_d"),
    Mutant("encoder", "dropped term", 1, "no skip connection around attention", "x = x + block.out(merge_heads(attended))",
           "x = block.out(merge_heads(attended))", "encoder::block_equals_loops"),
    Mutant("encoder", "dropped term", 1, "no skip connection around the MLP", "x = x + block.down(wiring.activation(block.up(mlp_in)))",
           "x = block.down(wiring.activation(block.up(mlp_in)))", "encoder::block_equals_loops"),
    Mutant("encoder", "dropped term", 1, "layer norm does not centre", "x = x - x.mean(axis=-1, keepdims=True)", "pass",
           "encoder::block_equals_loops"),
    Mutant("encoder", "axis", 1, "layer norm over tokens instead of features", "variance = np.mean(x * x, axis=-1, keepdims=True)",
           "variance = np.mean(x * x, axis=-2, keepdims=True)", "encoder::block_equals_loops"),
    Mutant("encoder", "normalisation", 1, "layer norm without epsilon", "np.sqrt(variance + eps)", "np.sqrt(variance)",
           "encoder::block_equals_loops"),
    Mutant("encoder", "axis", 1, "heads are interleaved columns, not runs of columns", "x.reshape(*x.shape[:-1], n_heads, -1), -3, -2)",
           "np.swapaxes(x.reshape(*x.shape[:-1], -1, n_heads), -1, -2), -3, -2)",
           "encoder::split_and_merge_are_inverse_and_a_head_is_a_run_of_columns"),
    Mutant("encoder", "constant", 1, "GELU of x, not of x/sqrt(2)", "erf(x / math.sqrt(2))", "erf(x)", "encoder::gelu_at_known_points"),
    Mutant("encoder", "time", 1, "heads are read from the outputs of the layers", "zip(blocks, states[:-1], strict=True)",
           "zip(blocks, states[1:], strict=True)", "encoder::heads_are_what_attention_receives"),
    Mutant("whole", "sign", 11, "keys are moved towards the centre", "(queries, keys - centre, values)", "(queries, keys + centre, values)",
           "whole::circuits_are_sums_over_neurons_in_every_head"),
    Mutant("whole", "dropped term", 11, "the centre is that of the keys found, without the queries", "np.mean(queries + attended, axis=-2, keepdims=True)",
           "np.mean(attended, axis=-2, keepdims=True)", "whole::the_centre_is_the_best_shift"),
    Mutant("published", "time", 4, "each population begins the stream anew", "stream.normal(0.0, 1.0, (m, d_key))",
           "np.random.RandomState(seed).normal(0.0, 1.0, (m, d_key))", "published::populations_are_one_stream_of_the_legacy_generator"),
    Mutant("published", "constant", 10, "untrained weights have the variance of a normal of that width",
           "return math.sqrt(d_key) / 3.0 * (1.0 + 1.0 / d_model)", "return math.sqrt(d_key) * (1.0 + 1.0 / d_model)",
           "published::untrained_norms_follow_from_the_initialisation"),
    Mutant("published", "dropped term", 10, "the norm before an untrained head keeps its gain",
           "fresh = Norm(np.ones_like(block.norm_attention.gain), np.zeros_like(block.norm_attention.bias))", "fresh = block.norm_attention",
           "published::untrained_norms_follow_from_the_initialisation"),
    Mutant("language", "time", 1, "positions are counted from one", "table.positions[:n_tokens]", "table.positions[1 : n_tokens + 1]",
           "pretrained::position_and_segment_enter_the_embedding"),
    # synapse
    Mutant("synapse", "dropped term", 5, "the mean field forgets depression", "used / (1 + used * rate / p.Omega_d)", "used + 0.0 * rate",
           "synapse::the_mean_field_is_near_poisson_trains_and_above_them"),
    Mutant("synapse", "sign", 5, "facilitation grows between spikes", "state.u * math.exp(-p.Omega_f * dt)", "state.u * math.exp(p.Omega_f * dt)",
           "synapse::relaxation_solves_the_differential_equations"),
    Mutant("synapse", "dropped term", 5, "vesicles do not recover", "1 - (1 - state.x) * math.exp(-p.Omega_d * dt)", "state.x + 0.0 * dt",
           "synapse::relaxation_solves_the_differential_equations"),
    Mutant("synapse", "dropped term", 5, "utilisation does not saturate", "release_probability(state.Gamma, p) * (1 - state.u)",
           "release_probability(state.Gamma, p)", "synapse::a_spike_acts_in_the_published_order"),
    Mutant("synapse", "time", 5, "a spike releases with the utilisation from before it", "released = u * state.x", "released = state.u * state.x",
           "synapse::a_spike_acts_in_the_published_order"),
    Mutant("synapse", "sign", 5, "release adds vesicles", "Terminal(u, state.x - released, Y, state.Gamma)", "Terminal(u, state.x + released, Y, state.Gamma)",
           "synapse::a_spike_acts_in_the_published_order"),
    Mutant("synapse", "sign", 5, "bound receptors raise where they should lower release", "(1 - Gamma) * p.U_0 + p.alpha * Gamma", "(1 + Gamma) * p.U_0 - p.alpha * Gamma",
           "synapse::receptors_change_release_towards_alpha"),
    Mutant("synapse", "dropped term", 5, "receptors never unbind", "rate = p.O_G * G + p.Omega_G", "rate = p.O_G * G + 1e-12",
           "synapse::relaxation_solves_the_differential_equations"),
    Mutant("synapse", "normalisation", 5, "the cleft is as small as a vesicle", "Y = state.Y + p.rho_c * p.Y_T * released", "Y = state.Y + p.Y_T * released",
           "synapse::a_spike_acts_in_the_published_order"),
    Mutant("synapse", "time", 5, "a sample at a spike's time follows it", 'side="left"', 'side="right"', "synapse::a_sample_at_a_spike_precedes_it"),
    Mutant("synapse", "dropped term", 5, "the stationary response forgets what is left of utilisation", "u = U / (1 - (1 - U) * np.exp(-p.Omega_f / rate))", "u = U + 0.0 * rate",
           "synapse::long_regular_trains_end_in_the_stationary_response"),
    Mutant("synapse", "normalisation", 5, "mean transmitter without clearance", "return p.rho_c * p.Y_T / p.Omega_c", "return p.rho_c * p.Y_T",
           "synapse::exposure_gives_the_mean_transmitter_of_a_long_train"),
    # export
    Mutant("export", "dropped term", 6, "PKC without saturation in the export", "Omega_N*(1 + zeta*C/(C + K_KC))*Gamma_A", "Omega_N*(1 + zeta*C)*Gamma_A",
           "export::cells_have_the_rates_of_the_module"),
    Mutant("export", "constant", 5, "the export gives rates the size of times", '"1/s": 1 / second', '"1/s": second',
           "export::every_unit_has_its_size_in_SI"),
    Mutant("export", "sign", 7, "gap junctions of the export carry IP3 uphill", "J_gap_post = F*", "J_gap_post = -F*",
           "export::gap_junctions_carry_what_the_module_carries"),
    Mutant("export", "normalisation", 9, "the gain of the export takes no notice of p", "r(t)*(1 - P*p)/tau_p", "r(t)*(1 - P)/tau_p",
           "export::the_network_has_the_rates_of_the_module"),
    Mutant("export", "time", 5, "the export's terminal forgets with the rate of facilitation", "dx_S/dt = Omega_d*(1 - x_S)", "dx_S/dt = Omega_f*(1 - x_S)",
           "export::terminals_relax_and_fire_as_the_module_says"),
    # astrocyte
    Mutant("astrocyte.calcium", "constant", 6, "two instead of three channel subunits", "(activated * activated * activated)", "(activated * activated)",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "dropped term", 6, "no leak out of the store", "(activated * activated * activated) + p.Omega_L) * stored", "(activated * activated * activated)) * stored",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "normalisation", 6, "the store has the volume of the cytosol", "stored = p.C_T - (1 + p.rho_A) * C\n    dC = ", "stored = p.C_T - 2 * C\n    dC = ",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "sign", 6, "SERCA pumps calcium out of the store", "dC = dC - p.O_P", "dC = dC + p.O_P",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "sign", 6, "calcium opens the gate", "dh = p.O_2 * (Q_2 - (Q_2 + C) * h)", "dh = p.O_2 * (Q_2 - (Q_2 - C) * h)",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "dropped term", 6, "no degradation by IP-5P", "(I + p.K_3K)) - p.Omega_5P * I\n", "(I + p.K_3K))\n",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "constant", 6, "degradation by IP3-3K with calcium squared", "C4 = C2 * C2", "C4 = C2",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "dropped term", 6, "PKC does not lower the affinity of receptors", "inactivation = p.Omega_N * (1 + p.zeta * C / (C + p.K_KC))\n    return", "inactivation = p.Omega_N\n    return",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "dropped term", 6, "receptors do not saturate", "p.O_N * Y * (1 - Gamma)", "p.O_N * Y", "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "sign", 6, "the pipette pushes where it should pull", "dI - p.F_ex * threshold_flow", "dI + p.F_ex * threshold_flow",
           "astrocyte::rates_are_the_published_equations"),
    Mutant("astrocyte.calcium", "constant", 6, "receptors in equilibrium without cooperativity", "COOPERATIVITY = 0.7", "COOPERATIVITY = 1.0",
           "astrocyte::receptors_in_equilibrium_are_those_of_the_published_code"),
    Mutant("astrocyte.calcium", "sign", 6, "calcium makes receptors in equilibrium bind better", "(level + (1 + p.zeta * C / (C + p.K_KC)) ** COOPERATIVITY)", "(level + (1 + p.zeta * C / (C + p.K_KC)) ** -COOPERATIVITY)",
           "astrocyte::receptors_in_equilibrium_are_those_of_the_published_code"),
    Mutant("astrocyte.calcium", "sign", 6, "one entry of the Jacobian", "J[..., 3, 2] = -p.O_2 * h", "J[..., 3, 2] = p.O_2 * h", "astrocyte::jacobian_matches_finite_differences"),
    Mutant("astrocyte.calcium", "dropped term", 6, "the calcium nullcline without the leak", "(p.C_T - (1 + p.rho_A) * C) - p.Omega_L\n", "(p.C_T - (1 + p.rho_A) * C)\n",
           "astrocyte::equilibria_are_at_rest"),
    Mutant("astrocyte.tissue", "sign", 7, "gap junctions carry IP3 uphill", "flow = p.F * threshold_flow(I[a] - I[b], p)", "flow = p.F * threshold_flow(I[b] - I[a], p)",
           "astrocyte::coupling_is_the_published_sum_over_neighbours"),
    Mutant("astrocyte.tissue", "dropped term", 7, "IP3 leaves a cell and reaches none", "np.bincount(b, flow, len(I)) - np.bincount(a, flow, len(I))", "-np.bincount(a, flow, len(I))",
           "astrocyte::gap_junctions_conserve_IP3"),
    Mutant("astrocyte.tissue", "dropped term", 6, "noise of the gate without Milstein's correction", "(dW + 0.5 * slope * (dW**2 - (0.0 if stratonovich else dt)))", "dW",
           "astrocyte::gate_noise_converges_strongly_with_order_one"),
    Mutant("astrocyte.tissue", "normalisation", 6, "noise grows with the step, not with its root", "dW = np.sqrt(dt) * normal", "dW = dt * normal",
           "astrocyte::gate_noise_converges_strongly_with_order_one"),
    Mutant("astrocyte.inward", "sign", 7, "IP3 that spikes drive runs away from rest", "(s.I_0 - y[0]) / s.tau_I", "(y[0] - s.I_0) / s.tau_I",
           "astrocyte::a_cell_that_spikes_drive_is_that_of_nest"),
    Mutant("astrocyte.inward", "time", 7, "spikes before records of their moment", "moments = np.concatenate([times, spikes])", "moments = np.concatenate([times, spikes - 1e-6])",
           "astrocyte::spikes_at_one_moment_add_and_a_record_at_that_moment_precedes_them"),
    Mutant("astrocyte.inward", "constant", 7, "the current takes calcium in uM for nM", "above = 1e3 * (np", "above = (np",
           "astrocyte::the_slow_inward_current_is_that_of_nest"),
    Mutant("astrocyte.release", "time", 7, "a cell releases for as long as calcium is high", "released = above & ~store.above", "released = above",
           "astrocyte::a_cell_releases_once_for_each_excursion"),
    Mutant("astrocyte.release", "dropped term", 7, "releases do not add up outside the cell", "G = store.G + np.where", "G = np.where",
           "astrocyte::a_cell_releases_once_for_each_excursion"),
    Mutant("astrocyte.release", "sign", 7, "the store loses what it keeps", "(1 - g.U_A) * store.x, store.x)", "g.U_A * store.x, store.x)",
           "astrocyte::a_cell_releases_once_for_each_excursion"),
    Mutant("astrocyte.tissue", "time", 6, "a step sees the input of its end", "input_at(Y, k * dt, cells)", "input_at(Y, (k + 1) * dt, cells)",
           "astrocyte::a_step_holds_the_input_of_its_start"),
    Mutant("rungekutta", "constant", 6, "the middle slopes of Runge-Kutta count once", "(1 / 6, 1 / 3, 1 / 3, 1 / 6)", "(1 / 4, 1 / 4, 1 / 4, 1 / 4)",
           "rungekutta::error_falls_with_the_order_of_the_table"),
    Mutant("rungekutta", "time", 9, "Runge-Kutta's third slope is taken at the start", "(0, 1 / 2), (0, 0, 1)", "(1 / 2, 0), (0, 0, 1)",
           "rungekutta::error_falls_with_the_order_of_the_table"),
    # circuit
    Mutant("circuit", "normalisation", 7, "an astrocyte sums where it should average", 'if circuit.pooling == "mean":', 'if circuit.pooling == "none":',
           "circuit::pooling_sums_or_averages_over_a_territory"),
    Mutant("circuit", "axis", 7, "gliotransmitter goes back to the wrong side of the pairs", "np.bincount(terminal, G[cell], circuit.n_synapses)", "np.bincount(cell, G[cell], circuit.n_synapses)",
           "circuit::equal_terminals_on_one_astrocyte_stay_equal_and_a_silent_one_is_modulated"),
    Mutant("circuit", "time", 7, "a release is labelled with the end of its step", "releases.append((k * dt_cell, np.flatnonzero(crossed)))", "releases.append(((k + 1) * dt_cell, np.flatnonzero(crossed)))",
           "circuit::a_release_carries_the_label_of_the_step_in_which_calcium_crossed"),
    Mutant("circuit", "normalisation", 8, "the mean over a step is that at its start", "Y = received / cell_every * _mean(circuit.synapse.Omega_c * dt)", "Y = received / cell_every",
           "circuit::both_ways_to_hold_converge_to_the_continuous_circuit"),
    Mutant("circuit", "normalisation", 7, "an event binds receptors as if its gliotransmitter stayed a second", "cell.U_A / cell.Omega_e", "cell.U_A",
           "circuit::a_release_binds_what_its_gliotransmitter_lasts_for"),
    # dynamics
    Mutant("dynamics", "sign", 9, "the gain grows with the response", "r * (1.0 - P * p) / times.tau_p", "r * (1.0 + P * p) / times.tau_p", "dynamics::gain_relaxes_at_the_rate_p_over_tau_p"),
    Mutant("dynamics", "dropped term", 9, "hidden neurons do not decay", "(now.hidden - h) / times.tau_h", "now.hidden / times.tau_h", "dynamics::whole_stream_agrees_with_scipy"),
    Mutant("dynamics", "normalisation", 9, "writing is not divided by the presentation", "w, r = now.writing / times.T, now.reading", "w, r = now.writing, now.reading",
           "dynamics::writing_follows_the_exact_solution_token_by_token"),
    Mutant("dynamics", "dropped term", 9, "Hebbian weights do not leak", "h[..., None, :] - times.leak_H * H", "h[..., None, :]", "dynamics::writing_follows_the_exact_solution_token_by_token"),
    Mutant("dynamics", "axis", 9, "Hebbian weights tie values to the wrong hidden neurons", "(w * l)[..., None] * h[..., None, :]", "(w * l)[..., None] * h[..., None, ::-1]",
           "dynamics::writing_follows_the_exact_solution_token_by_token"),
    Mutant("dynamics", "dropped term", 9, "the exact solution forgets how h and l lag together", "tied_to_dh = lag_h * now.output + both * dl", "tied_to_dh = lag_h * now.output",
           "dynamics::writing_follows_the_exact_solution_token_by_token"),
    Mutant("dynamics", "dropped term", 9, "the exact solution forgets the leak of g", "g = keep_g * g + w", "g = g + w",
           "dynamics::leaks_weight_the_past_by_its_age"),
    Mutant("dynamics", "time", 9, "tokens are held one step too long", "for _ in range(steps):\n            state = _step", "for _ in range(steps + 1):\n            state = _step",
           "dynamics::writing_follows_the_exact_solution_token_by_token"),
    # living
    Mutant("beyond.living", "normalisation", 18, "the common factor of all tokens is not the best one",
           "common = np.sum(output * exact) / np.sum(output * output)", "common = np.sum(output * exact) / np.sum(exact * exact)",
           "living::the_exact_gain_gives_exact_attention_and_a_constant_its_closed_form"),
    Mutant("beyond.living", "normalisation", 18, "contacts do not follow the weights", "edges = np.cumsum(weights) / weights.sum()",
           "edges = np.linspace(1 / len(weights), 1, len(weights))", "living::contacts_are_as_many_as_the_weights_say"),
    Mutant("beyond.living", "constant", 18, "concentrations a second do not run faster", 'in ("1/s", "uM/s", "1/(uM s)")', 'in ("1/s", "1/(uM s)")',
           "living::parts_that_are_all_faster_do_the_same_sooner"),
    Mutant("beyond.living", "time", 18, "every token finds the circuit at rest", "        state = run.final\n", "",
           "living::the_stream_is_one_run_and_windows_lie_at_the_end_of_each_token"),
    Mutant("beyond.living", "time", 18, "the gain is read at the beginning of a token", "late = run.times >= (1 - window) * held", "late = run.times < (1 - window) * held",
           "living::the_stream_is_one_run_and_windows_lie_at_the_end_of_each_token"),
    Mutant("beyond.living", "dropped term", 18, "the astrocyte hears what it would without division", "astrocyte.step(state, step, cell, P * level)", "astrocyte.step(state, step, cell, level)",
           "living::the_limit_of_many_terminals_is_what_lsoda_finds"),
    Mutant("beyond.living", "dropped term", 18, "gliotransmitter does not fade within a step", "terminal, fade * store.G)", "terminal, store.G)",
           "living::the_limit_of_many_terminals_is_what_lsoda_finds"),
    Mutant("beyond.living", "sign", 18, "a release raises the gain", "P = due * math.exp(-pulse)", "P = min(1.0, due * math.exp(pulse))",
           "living::the_fastest_astrocyte_event_by_event_is_what_small_steps_give"),
    Mutant("beyond.living", "time", 18, "the mean over a token is taken over all of it", "a, b = max(now, start) - now, end - now", "a, b = 0.0, end - now",
           "living::the_fastest_astrocyte_event_by_event_is_what_small_steps_give"),
    Mutant("beyond.living", "constant", 18, "a tree of compartments without branches", "np.stack([(child - 1) // 2, child], axis=1)", "np.stack([child - 1, child], axis=1)",
           "living::a_tree_joins_every_compartment_once_and_branches_hang_together"),
    # domains
    Mutant("beyond.robustness", "sign", 12, "numb processes are those that the astrocyte hears", "< fraction, 0, c.g)", ">= fraction, 0, c.g)",
           "robustness::failing_processes_against_loops"),
    Mutant("beyond.robustness", "dropped term", 12, "deaf synapses transmit nothing", " + stuck * (c.hidden @ np.where(lost, c.H, 0).T)", "",
           "robustness::failing_processes_against_loops"),
    Mutant("beyond.robustness", "dropped term", 12, "the turn counts the part along the output too", "np.sum(y2 * (1 - unit2), axis=1)", "np.sum(y2, axis=1)",
           "robustness::turn_of_deaf_processes_is_that_of_many_injuries"),
    Mutant("beyond.robustness", "normalisation", 12, "log-normal noise has a mean above one", "shape) - sigma**2 / 2)", "shape))",
           "robustness::noise_has_its_coefficient_of_variation_and_mean_one"),
    Mutant("beyond.robustness", "dropped term", 12, "noise of a hidden neuron is not divided out where it votes with the rest", "- 2 * np.vecdot(w2 @ y.T, c.exact) + of_g", "+ of_g",
           "robustness::noise_is_what_its_law_says"),
    Mutant("beyond.robustness", "axis", 12, "axon and dendrite change places", 'axis = 0 if scale == "axon" else 1', 'axis = 1 if scale == "axon" else 0',
           "robustness::weights_take_no_more_values_than_their_bits_allow"),
    Mutant("beyond.robustness", "dropped term", 12, "saturation of keys and of queries does not add", "over = np.maximum(along_q - log_ceiling, 0) + np.maximum(along_k - log_ceiling, 0)", "over = np.maximum(along_q - log_ceiling, 0)",
           "robustness::saturation_approaches_its_limit_and_no_ceiling_is_softmax"),
    Mutant("beyond.robustness", "time", 12, "a late gain forgets that it is faster where the response is large", "np.exp(-p_t / lag)", "np.exp(-1 / lag)",
           "robustness::a_late_gain_is_the_integral_of_its_equation"),
    Mutant("beyond.robustness", "dropped term", 12, "astrocytes that share hear their own part alone", "(1 - eta) * p_own + eta * p", "(1 - eta) * p_own + eta * p_own",
           "robustness::territories_are_circuits_of_their_own_and_sharing_makes_them_one"),
    Mutant("beyond.robustness", "normalisation", 12, "every other neuron is a partner for certain", "alive = 1 + (decay - 1) / astrocytes", "alive = decay",
           "robustness::expected_tiling_is_the_mean_of_many"),
    Mutant("astrocyte.calcium", "sign", 6, "a peak lies on the wrong side of its sample", "shift = 0.5 * (down - up) / (down + up)", "shift = 0.5 * (up - down) / (down + up)",
           "astrocyte::peaks_lie_between_samples"),
    Mutant("beyond.domains", "normalisation", 12, "a domain divides by the sum of its synapses, not by their mean",
           "np.stack(sums) / np.bincount(synapses)", "np.stack(sums)",
           "domains::domains_divide_what_they_transmit_by_what_they_hear"),
    Mutant("beyond.domains", "sign", 12, "a domain that hears much transmits more", "gain = (1.0 / heard(share, labels)).T", "gain = heard(share, labels).T",
           "domains::domains_divide_what_they_transmit_by_what_they_hear"),
    Mutant("beyond.domains", "constant", 12, "a synapse counts itself among its partners", "decay.mean(axis=-1) ** (size - 1)", "decay.mean(axis=-1) ** size",
           "domains::moments_of_shares_are_those_over_all_partners"),
    Mutant("beyond.domains", "dropped term", 12, "synapses are drawn with replacement", "max(synapses - size, 0) / (synapses - 1)", "1",
           "domains::scatter_is_that_over_all_assignments"),
    # writing
    Mutant("beyond.writing", "dropped term", 18, "enhancement grows without end", "total = up / most + 1 / synapse.decay", "total = 1 / synapse.decay",
           "writing::tokens_one_after_the_other_are_what_lsoda_finds"),
    Mutant("beyond.writing", "sign", 18, "a token lowers the enhancement", "- up / total * np.expm1", "+ up / total * np.expm1",
           "writing::without_decay_and_ceiling_writing_is_the_sum_of_the_paper"),
    Mutant("beyond.writing", "time", 18, "spikes do not fade until the end of their token", "        A = A * np.exp(-(T - now) / synapse.decay)\n", "",
           "writing::spikes_one_by_one_have_that_mean_and_the_spread_of_shot_noise"),
    Mutant("beyond.writing", "constant", 18, "coincidences are counted before a spike and after it", "return window * pre", "return 2 * window * pre",
           "writing::coincidences_come_at_the_rate_that_counting_finds"),
    Mutant("beyond.writing", "sign", 18, "both populations carry positive values", "np.maximum(-values, 0)", "np.maximum(values, 0)",
           "writing::two_populations_hold_both_signs_and_no_rate_is_negative"),
    # vision
    Mutant("vision", "axis", 10, "patches go column by column", "np.moveaxis(cut, (-5, -3, -1, -4, -2), (-5, -4, -3, -2, -1))", "np.moveaxis(cut, (-3, -5, -1, -4, -2), (-5, -4, -3, -2, -1))",
           "vision::patches_go_row_by_row_after_the_class_token"),
    Mutant("vision", "time", 10, "the class token gets a patch's position", "return np.concatenate([positions[:1], square])", "return np.concatenate([square, positions[:1]])",
           "checkpoints::hidden_states_are_those_of_transformers"),
    # tuning
    Mutant("beyond.working", "time", 13, "the window reaches one token further", "earlier = xp.tril(ones, k=i - t - window)",
           "earlier = xp.tril(ones, k=i - t - window - 1)", "working::every_pair_is_what_it_should_be"),
    Mutant("beyond.working", "time", 13, "causal queries see the near future", "return held & causal_mask(scores) if causal else held",
           "return held", "working::without_neurons_only_the_window_is_seen"),
    Mutant("beyond.working", "dropped term", 13, "a near pair counts twice, exactly and by the neurons", "xp.where(held, 1.0, pairs)",
           "xp.where(held, 1.0 + pairs * xp.exp(xp.where(held, scale - s, 0.0 * s)), pairs)", "working::every_pair_is_what_it_should_be"),
    Mutant("network", "normalisation", 13, "far pairs lose the gain of their key", "(top + x.gain)[..., 0]", "top[..., 0]",
           "working::both_ends_are_the_network_and_softmax_attention"),
    Mutant("beyond.tuning", "sign", 13, "the gain of a tuned neuron grows with the token's norm",
           "gain = -0.5 * xp.sum(", "gain = 0.5 * xp.sum(",
           "tuning::fitted_random_curves_estimate_the_exponential_kernel"),
    Mutant("beyond.tuning", "dropped term", 13, "neurons fire without their thresholds",
           "Activity(drive + self.offsets[..., None, :], 1.0, gain)", "Activity(drive, 1.0, gain)",
           "tuning::fitted_random_curves_estimate_the_exponential_kernel"),
    Mutant("beyond.tuning", "dropped term", 13, "moved curves forget the square of the shift",
           "directions @ shift[..., None] + 0.5 * shift[..., None, :] @ bent", "directions @ shift[..., None]",
           "tuning::blocks_heads_and_moved_coordinates_change_nothing"),
    Mutant("beyond.tuning", "normalisation", 13, "keys are balanced by the transform of the queries",
           "return transform, np.linalg.inv(transform).T", "return transform, transform",
           "tuning::balanced_coordinates_give_keys_and_queries_one_diagonal_covariance"),
    Mutant("beyond.tuning", "constant", 13, "the dense spread at the smaller root",
           "spread = half + np.sqrt(half**2 - 0.5)", "spread = half - np.sqrt(half**2 - 0.5)",
           "tuning::dense_spread_minimises_the_second_moment_for_gaussian_stimuli"),
    Mutant("beyond.tuning", "constant", 13, "the gain absorbs the whole weight on either side",
           "offsets = 0.5 * (-0.5 * np.sum(directions**2, axis=-1) - log_density)",
           "offsets = -0.5 * np.sum(directions**2, axis=-1) - log_density",
           "tuning::fitted_random_curves_estimate_the_exponential_kernel"),
    Mutant("beyond.tuning", "dropped term", 13, "centring forgets the gain of the key",
           "directions=key_side.directions + query_mean", "directions=key_side.directions",
           "tuning::fitted_random_curves_estimate_the_exponential_kernel"),
    Mutant("beyond.tuning", "dropped term", 13, "centring forgets the gain of the query",
           "directions=query_side.directions + key_mean", "directions=query_side.directions",
           "tuning::fitted_random_curves_estimate_the_exponential_kernel"),
    Mutant("beyond.tuning", "normalisation", 13, "the level of a population's response depends on its size",
           'level = 0.0 if kind == "prototypes" else np.log(n_neurons)', "level = 0.0",
           "tuning::fitted_random_curves_estimate_the_exponential_kernel"),
    Mutant("beyond.tuning", "sign", 13, "a prototype's neuron is tuned to the opposite keys",
           "Curves(z, -scale, flat)", "Curves(-z, -scale, flat)",
           "tuning::prototypes_are_answered_exactly"),
    Mutant("beyond.tuning", "dropped term", 13, "the level of prototypes is left as it comes",
           "curves.offsets + constant", "curves.offsets",
           "tuning::the_level_of_prototypes_is_that_of_the_normaliser"),
    # rivals
    # gguf, decoder
    Mutant("gguf", "constant", 19, "blocks of four bits without their minimum", "return q * _halves(raw[:, :2]) + _halves(raw[:, 2:4])",
           "return q * _halves(raw[:, :2])", "decoder::every_way_of_storing_is_read"),
    Mutant("gguf", "axis", 19, "the two halves of a block change places", "np.concatenate([packed & 15, packed >> 4], axis=1)",
           "np.concatenate([packed >> 4, packed & 15], axis=1)", "decoder::every_way_of_storing_is_read"),
    Mutant("gguf", "axis", 19, "shapes are read with the fastest axis first", "for _ in range(axes))[::-1]", "for _ in range(axes))",
           "decoder::every_way_of_storing_is_read"),
    Mutant("beyond.decoder", "sign", 19, "positions turn queries and keys the other way", "[a * cos - b * sin, a * sin + b * cos]",
           "[a * cos - b * sin, a * cos + b * sin]", "decoder::the_model_is_what_its_equations_say"),
    Mutant("beyond.decoder", "time", 19, "every token believes that it is the first", "angle = (start + np.arange(x.shape[-2]))", "angle = (np.arange(x.shape[-2]))",
           "decoder::step_by_step_is_all_at_once"),
    Mutant("beyond.decoder", "normalisation", 19, "scores are not divided by the root of d", "start, model.theta) / d**0.25", "start, model.theta) / d**0.0",
           "decoder::the_model_is_what_its_equations_say"),
    Mutant("beyond.decoder", "dropped term", 19, "the gate of the MLP is left out", "silu(h @ block.gate.T) * (h @ block.up.T)", "silu(h @ block.up.T)",
           "decoder::the_model_is_what_its_equations_say"),
    Mutant("beyond.decoder", "time", 19, "a token that was said is not read", "logits, state, readings = listen(model, [token], state)",
           "logits, _, readings = listen(model, [token], state)", "decoder::speaking_takes_the_likeliest_or_draws"),
    Mutant("beyond.working", "dropped term", 19, "pairs that leave the window are forgotten", "if held.phi is not None:\n        memory = network.blank", "if held.phi is not None and memory is None:\n        memory = network.blank",
           "working::a_stream_token_by_token_is_the_whole"),
    Mutant("beyond.working", "time", 19, "the first tokens leave with the others", "gone = slice(held.first, held.first + leaving)", "gone = slice(0, leaving)",
           "working::a_stream_token_by_token_is_the_whole"),
    Mutant("beyond.decoder", "time", 19, "a resumed state has forgotten how many tokens it read", "return State(tokens, tuple(layers))", "return State(0, tuple(layers))",
           "decoder::a_state_is_saved_and_goes_on_where_it_was"),
    Mutant("beyond.recruiting", "constant", 19, "merging costs the distance alone, whatever the numbers of keys", "cost = g * n / (g + n) * np.sum(", "cost = np.sum(",
           "recruiting::pairs_merge_as_lists_do"),
    Mutant("beyond.recruiting", "dropped term", 19, "the values of a neuron that merges are lost", "            H[head, :, one] += H[head, :, place]\n", "",
           "recruiting::pairs_merge_as_lists_do"),
    Mutant("beyond.recruiting", "normalisation", 19, "the astrocyte counts a recruited neuron once", "np.sum(phi * count[..., None, :], axis=-1)",
           "np.sum(phi * (count[..., None, :] > 0), axis=-1)", "recruiting::pairs_merge_as_lists_do"),
    Mutant("beyond.rivals", "normalisation", 16, "a Hopfield step without its softmax", "return np.exp(s - log_sum_exp(s)) @ stored",
           "return s @ stored", "rivals::one_hopfield_step_with_unscaled_tokens_is_attention"),
    Mutant("beyond.rivals", "dropped term", 16, "addresses near one of two points count as near both", "(b + c <= radius) & (v - b + c <= radius)",
           "(b + c <= radius)", "rivals::circle_intersection_counts_addresses"),
    Mutant("beyond.rivals", "constant", 16, "a circle of addresses has twice its share", "beta.isf(2 * share,", "beta.isf(4 * share,",
           "rivals::hard_locations_are_active_for_their_share"),
    Mutant("beyond.rivals", "dropped term", 16, "values are written without regard to hidden activity", "V[gamma] = h[gamma, None] * y",
           "V[gamma] = y", "rivals::values_are_written_by_what_the_key_excites"),
    Mutant("beyond.rivals", "time", 16, "a pair is asked for before its key is written", "        K[gamma] = x\n        s = K @ x\n",
           "        s = K @ x\n        K[gamma] = x\n", "rivals::values_are_written_by_what_the_key_excites"),
    Mutant("beyond.rivals", "sign", 16, "matches below the threshold take control", "* expit(sharpness * (scores",
           "* expit(-sharpness * (scores", "rivals::a_match_takes_control_at_the_threshold"),
    Mutant("beyond.rivals", "dropped term", 16, "a synapse without a match does not conduct", "return 1 + (strongest - 1) * expit",
           "return strongest * expit", "rivals::synapses_without_a_match_still_conduct_and_limit_what_is_recalled"),
    Mutant("beyond.rivals", "sign", 16, "a soma fires below its threshold", "others.sf(threshold)", "others.cdf(threshold)",
           "rivals::a_soma_errs_as_often_as_counted"),
    Mutant("beyond.rivals", "constant", 16, "a lost pair has no right bits", "return 1 - 0.5 * np.cumsum(lost)", "return 1 - np.cumsum(lost)",
           "rivals::simulated_slots_recall_as_much_as_derived"),
    Mutant("beyond.rivals", "dropped term", 16, "the delta rule does not subtract what is recalled", "rate * np.tril(overlaps, -1)",
           "0 * np.tril(overlaps, -1)", "rivals::the_delta_rule_writes_what_is_not_said_yet"),
    Mutant("beyond.rivals", "axis", 16, "calcium responds to each token apart, not to the sum", "np.sum(k, axis=-2, keepdims=True) ** alpha",
           "np.sum(k**alpha, axis=-2, keepdims=True)", "rivals::astromorphic_attention_written_out"),
    Mutant("beyond.rivals", "constant", 16, "the associative memory's overlaps are squared, not cubed", "return scores(queries, keys) ** 3",
           "return scores(queries, keys) ** 2", "rivals::a_query_drives_the_values_of_the_associative_memory"),
    Mutant("beyond.rivals", "dropped term", 16, "gains without entropy", " - model.temperature * np.log(state.p)", "",
           "rivals::gains_settle_at_a_softmax_of_overlaps_and_recall_follows_the_equations"),
    Mutant("beyond.rivals", "normalisation", 16, "gains do not compete", "state.p * (F - mean) / model.tau_p", "state.p * F / model.tau_p",
           "rivals::replicator_rates_follow_the_gradient_of_their_energy"),
    Mutant("beyond.rivals", "constant", 16, "linear attention with elu, without the 1", "np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))",
           "np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)", "rivals::public_implementations_compute_the_same"),
    Mutant("beyond.rivals", "dropped term", 16, "random features without sines", "np.repeat([0.0, -math.pi / 2], n_neurons // 2)",
           "np.repeat([0.0, 0.0], n_neurons // 2)", "rivals::fourier_neurons_estimate_the_exponential_kernel"),
    Mutant("beyond.rivals", "dropped term", 16, "a gate that forgets does not weigh what is new", "keep * total + (1 - keep) * now",
           "keep * total + now", "rivals::forgetting_weighs_by_what_was_kept_since"),
    Mutant("beyond.rivals", "time", 16, "a causal query of the interface sees the future", "np.where(causal_mask(weights), weights, 0)", "np.tril(weights, k=1)",
           "rivals::softmax_among_the_systems_is_attention"),
    # memory
    Mutant("beyond.memory", "sign", 15, "processes weaken what Hebb's rule strengthens", "+ together + psi)", "+ together - psi)",
           "memory::rates_equal_the_equations_written_out"),
    Mutant("beyond.memory", "dropped term", 15, "a synapse of a neuron with itself drives it all the same", "@ xi - own)", "@ xi)",
           "memory::couplings_equal_their_sums_written_out"),
    Mutant("beyond.memory", "dropped term", 15, "squared overlaps keep the pairs of a neuron with itself", "** 2 - (0 if selves else 1 / n)", "** 2",
           "memory::largest_eigenvalue_is_that_of_couplings_on_pairs"),
    Mutant("beyond.memory", "dropped term", 15, "settled synapses of a neuron with itself drive it", "        drive -= itself * state * held.sum(axis=1, keepdims=True)\n", "",
           "memory::whole_network_settles_where_recall_whole_says"),
    Mutant("beyond.memory", "normalisation", 15, "the leak of synapses counts once in their loop gain", "(times.leak_s**2 * critical)", "(times.leak_s * critical)",
           "memory::whole_network_settles_where_recall_whole_says"),
    Mutant("beyond.memory", "constant", 15, "as many vectors a dimension as memories over N^2, not over pairs", "ratio = 2 * k / n_neurons", "ratio = k / n_neurons",
           "memory::drive_of_the_whole_network_is_that_derived"),
    Mutant("beyond.memory", "dropped term", 15, "noise of the memory's own part is forgotten", "20 * b * m2 + b**2 * (2 + 8 * m2)", "0 * b",
           "memory::drive_of_the_whole_network_is_that_derived"),
    Mutant("beyond.memory", "constant", 15, "the load without self-synapses counts ordered pairs", "root**2 * n_neurons**2 / 2", "root**2 * n_neurons**2",
           "memory::load_of_the_whole_network_is_where_signal_and_hold_are_equal"),
    # imaging
    Mutant("beyond.imaging", "dropped term", 17, "the indicator binds without cooperation",
           "return 1 + (p.contrast - 1) * bound / (bound + p.K_d**p.n)", "return 1 + (p.contrast - 1) * C / (C + p.K_d)",
           "imaging::brightness_is_a_hill_curve_between_its_ends"),
    Mutant("beyond.imaging", "normalisation", 17, "sensitivity of brightness, not of its logarithm",
           "return slope / brightness(C, p)", "return slope",
           "imaging::sensitivity_is_the_slope_of_log_brightness"),
    Mutant("beyond.imaging", "normalisation", 17, "a pulse of the indicator does not integrate to one",
           "after / (p.tau_decay - p.tau_rise)", "after / p.tau_decay",
           "imaging::response_is_that_of_two_leaky_integrators_in_series"),
    Mutant("beyond.imaging", "sign", 17, "the response leads instead of lags", "1 / ((1 + 1j * omega * p.tau_decay)", "1 / ((1 - 1j * omega * p.tau_decay)",
           "imaging::transfer_is_the_fourier_integral_of_the_response"),
    Mutant("beyond.imaging", "time", 17, "the indicator starts dark, not in equilibrium", "zi=keep * x[:1]", "zi=0 * x[:1]",
           "imaging::response_is_that_of_two_leaky_integrators_in_series"),
    Mutant("beyond.imaging", "dropped term", 17, "reading a frame costs no noise", "rng.poisson(flux * exposure * F) + read_noise * rng.standard_normal(F.shape)", "rng.poisson(flux * exposure * F)",
           "imaging::photons_have_the_variance_of_shot_noise_and_of_reading"),
    Mutant("beyond.imaging", "dropped term", 17, "bright frames have the shot noise of dark ones", "return F / (flux * exposure) + (read_noise", "return 1 / (flux * exposure) + (read_noise",
           "imaging::photons_have_the_variance_of_shot_noise_and_of_reading"),
    Mutant("beyond.imaging", "normalisation", 17, "the noise level grows with the frame rate", "np.diff(trace, axis=0))) / np.sqrt(rate)", "np.diff(trace, axis=0)))",
           "imaging::noise_level_is_the_same_at_every_frame_rate"),
    Mutant("beyond.imaging", "sign", 17, "whitening adds what it should take away", "return x[order:] - sum(", "return x[order:] + sum(",
           "imaging::whitening_restores_the_level_that_correlated_noise_destroys"),
    Mutant("beyond.imaging", "dropped term", 17, "candidates are not freed from the nuisances", "_flat(Z) - u @ (u.T @ _flat(Z))", "_flat(Z)",
           "imaging::t_is_that_of_the_partial_correlation_where_noise_is_white"),
    Mutant("beyond.imaging", "dropped term", 17, "randomisation is one-sided", "np.mean(np.abs(t) >= np.abs(t[0]))", "np.mean(t >= t[0])",
           "imaging::randomisation_keeps_its_level_where_whitening_does_not"),
    Mutant("beyond.imaging", "dropped term", 17, "power of a two-sided level counts one side", "t.ppf(1 - level / 2, df)", "t.ppf(1 - level, df)",
           "imaging::power_is_that_of_cohens_tables"),
    Mutant("beyond.imaging", "normalisation", 17, "repetitions for a power go with delta, not its square", "np.asarray(delta)) ** 2", "np.asarray(delta))",
           "imaging::needed_repetitions_give_the_power_they_promise"),
    Mutant("beyond.imaging", "dropped term", 17, "the interaction keeps the effect of queries", "return table - by_row - by_column, by_row", "return table - by_row, by_row",
           "imaging::effects_and_interaction_of_a_product_are_those_of_its_factors"),
    Mutant("beyond.imaging", "dropped term", 17, "one context has no gain", "a = np.eye(n_contexts)[:, 1:] - 1 / n_contexts", "a = np.eye(n_contexts)[:, 2:] - 1 / n_contexts",
           "imaging::gains_span_every_product_of_a_gain_and_a_feature_and_no_effect"),
    Mutant("beyond.imaging", "dropped term", 17, "gains on what the traces show are no nuisance", "gains(np.column_stack([by_query, known]), c)", "gains(known, c)",
           "imaging::interaction_keeps_its_level_where_contexts_scale_a_feature_and_finds_the_model"),
    Mutant("beyond.session", "dropped term", 17, "a process forgets that it is slower than its drive", "chain = chain / (1 + 1j * omega * of.tau_process)", "pass",
           "session::a_lasting_drive_changes_the_glow_as_from_one_fixed_point_to_another"),
    Mutant("beyond.session", "normalisation", 17, "the chain leaves out the mean drive", "chain = of.Y * R", "chain = R",
           "session::weak_drives_pass_the_whole_cell_as_the_chain_says"),
    Mutant("beyond.session", "dropped term", 17, "the spectrum leaves out what sampling folds", ".reshape(k, n_frames).sum(0)", ".reshape(k, n_frames)[0]",
           "session::frames_vary_as_the_spectrum_says"),
    Mutant("beyond.session", "normalisation", 17, "wandering noise grows from its first step on", "kick[1:] *= np.sqrt(1 - keep**2)", "kick[1:] *= 1 - keep**2",
           "session::wandering_noise_has_unit_variance_and_its_memory"),
    Mutant("beyond.session", "dropped term", 17, "the model is not freed from the nuisances", "model = model - others @ np.linalg.lstsq(others, model)[0]", "pass",
           "session::non_centrality_is_that_of_least_squares_with_the_noise_s_covariance"),
    Mutant("beyond.session", "axis", 17, "a query is sought where the order names it, not where it is shown", "np.argsort(order, axis=1) + queries", "order + queries",
           "session::a_cell_of_the_design_is_seen_where_its_query_is_shown"),
    Mutant("beyond.session", "dropped term", 17, "multiplied effects lose one factor", "(1 + by_context) * (1 + by_query) - 1", "(1 + by_context) + by_query - 1",
           "session::worlds_are_as_strong_as_the_theory_and_interact_where_they_should"),
    Mutant("beyond.session", "normalisation", 17, "sessions together count as one", "return float(there / np.sqrt(n_together))", "return float(there)",
           "session::the_interaction_delta_is_that_of_the_t_test_on_simulated_sessions"),
]  # fmt: skip


def copy(folder: Path) -> Path:
    """What the tests read, in a folder where it may be broken."""
    for name in ("code", "scripts", "tests", "data", "book"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.ipynb")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(folder: Path, tests: list[str]) -> subprocess.CompletedProcess:
    """Named tests on that copy, the first failure ends it."""
    nodes = [f"tests/test_{name.replace('::', '.py::test_')}" for name in tests]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", "-o", "addopts="]
    options.append("--hypothesis-profile=ci")  # no deadline, which a busy machine would miss
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *nodes],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "code"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )


def judge(folder: Path, mutant: Mutant) -> dict:
    """Break the copy, run the named test, mend the copy; caught: the test failed."""
    path = source_of(mutant.module, folder)
    sound = path.read_text(encoding="utf-8")
    if sound.count(mutant.old) < 1:
        raise SystemExit(f"{mutant.module}: {mutant.old!r} is not there any more")
    start = time.monotonic()
    try:
        path.write_text(sound.replace(mutant.old, mutant.new, 1), encoding="utf-8")
        done = run(folder, [mutant.test])
    finally:
        path.write_text(sound, encoding="utf-8")
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutant.test}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    caught = done.returncode == 1
    print(f"{'caught' if caught else 'SURVIVED':8} {mutant.module}: {mutant.mistake}", flush=True)
    return mutant._asdict() | {
        "of": of_mutant(mutant.module, mutant.test),
        "caught": caught,
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--workers", type=int, default=1)
    options.add_argument(
        "--new", action="store_true", help="only what was never tried; the rest keeps its verdict"
    )
    given = options.parse_args()
    workers = given.workers
    recorded = read("mutants").get("mutants", [])
    known = {Mutant(*(r[field] for field in Mutant._fields)): r for r in recorded}
    known = {
        mutant: r
        for mutant, r in known.items()  # what is of the same sources need not be tried again
        if given.new or r.get("of") == of_mutant(mutant.module, mutant.test)
    }
    todo = [mutant for mutant in MUTANTS if mutant not in known]
    with tempfile.TemporaryDirectory() as temporary:
        idle: SimpleQueue = SimpleQueue()
        for n in range(workers):
            idle.put(copy(Path(temporary) / str(n)))

        def one(mutant: Mutant) -> dict:
            folder = idle.get()
            try:
                return judge(folder, mutant)
            finally:
                idle.put(folder)

        named = sorted({mutant.test for mutant in todo})
        sound = run(Path(temporary) / "0", named) if named else None
        if sound and sound.returncode:  # a test that fails anyway would catch everything
            raise SystemExit(f"tests fail without any mutant:\n{sound.stdout[-3000:]}")
        with ThreadPoolExecutor(workers) as pool:
            known |= dict(zip(todo, pool.map(one, todo), strict=True))
    results = [known[mutant] for mutant in MUTANTS]
    tests = len({mutant.test for mutant in MUTANTS})
    report("mutants", {"commit": commit(), "tests": tests, "mutants": results})
    survivors = [r["mistake"] for r in results if not r["caught"]]
    print(f"{len(results)} mutants, {len(survivors)} survive")
    raise SystemExit("\n".join(survivors) or None)


if __name__ == "__main__":
    main()
