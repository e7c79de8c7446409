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
  runtime: { id: string; path: string; variant: string; version: string; reason: string } | null;
  candidates: Candidate[];
  backends: { name: string; version: string | null; works: boolean; reason: string }[];
  transports: { name: string; works: boolean; reason: string }[];
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
