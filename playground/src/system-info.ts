/** What `GET /v1/system` answers. */

export interface SystemInfo {
  version: string;
  cpu: {
    vendor: string;
    name?: string;
    flags: string[];
    cores: number;
    threads: number;
    microarchitecture: string | null;
    quota: number | null;
    kinds: { kind: string; cores: number; threads: number; usable: number }[];
    caches: { level: number; purpose: string; bytes: number; count: number }[];
  } | null;
  memory: { available: number; total: number; limit: number | null } | null;
  gpus: { vendor: string; name: string; driver: string | null; memory: number | null }[];
  gpu_runtimes: GpuRuntime[];
  threads: { count: number; reason: string } | null;
  advice: Advice[];
  runtime: { id: string; path: string; variant: string; version: string; reason: string } | null;
  candidates: Candidate[];
  backends: { name: string; version: string | null; works: boolean; reason: string }[];
  transports: { name: string; works: boolean; reason: string }[];
}

/** A runtime with a module for GPUs, and the devices that it finds. */
export interface GpuRuntime {
  id: string;
  version: string;
  interfaces: string[];
  devices: { name: string; description: string; memory: number }[];
  reason: string;
}

/** A runtime that was found. */
export interface Candidate {
  id: string;
  path: string;
  variant: string;
  version: string;
  allowed: boolean;
  score: number;
  reason: string;
}

/** What another runtime would bring, by measured figures. */
export interface Advice {
  text: string;
  gains: { weights: string; prompt: number; generation: number | null }[];
}
