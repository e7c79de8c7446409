/** What `GET /v1/system` answers. */

export interface SystemInfo {
  version: string;
  cpu: {
    vendor: string;
    name?: string;
    flags: string[];
    cores: number;
    threads: number;
  } | null;
  memory: { available: number; total: number } | null;
  gpus: Record<string, unknown>[];
  gpu_runtimes: GpuRuntime[];
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
