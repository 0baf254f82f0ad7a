// The documents of the OCI image specification and of docker's older twins (image index = manifest list,
// manifest = schema 2, config), each with the schema that it must pass when it comes from outside.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { CriError, messageOf } from '../errors.ts';
import { maxDocumentBytes } from './media-types.ts';
import { isDigest } from './reference.ts';

const digest = z.string().refine(isDigest, 'not a digest such as sha256:<64 hex digits>');
const size = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);

/** Go programs write an empty list or map as null. */
function nullable<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform(value => value ?? undefined);
}

export const platformSchema = z.object({
  architecture: z.string(),
  os: z.string(),
  variant: z.string().optional(),
  'os.version': z.string().optional(),
});
export type Platform = z.infer<typeof platformSchema>;

export const descriptorSchema = z.object({
  mediaType: z.string().default(''),
  digest,
  size,
  annotations: nullable(z.record(z.string(), z.string())),
  platform: nullable(platformSchema),
  artifactType: z.string().optional(),
});
export type Descriptor = z.infer<typeof descriptorSchema>;

export const indexSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z
    .array(descriptorSchema)
    .nullable()
    .transform(list => list ?? []),
  artifactType: z.string().optional(),
});
export type ImageIndex = z.infer<typeof indexSchema>;

export const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: descriptorSchema,
  layers: z
    .array(descriptorSchema)
    .nullable()
    .transform(list => list ?? []),
  artifactType: z.string().optional(),
});
export type Manifest = z.infer<typeof manifestSchema>;

const strings = nullable(z.array(z.string()));
const emptyObjects = nullable(z.record(z.string(), z.unknown()));

/** What a container takes from its image (image-spec, config.md; `Config`). */
export const runConfigSchema = z.object({
  User: nullable(z.string()),
  ExposedPorts: emptyObjects,
  Env: strings,
  Entrypoint: strings,
  Cmd: strings,
  Volumes: emptyObjects,
  WorkingDir: nullable(z.string()),
  Labels: nullable(z.record(z.string(), z.string())),
  StopSignal: nullable(z.string()),
});
export type RunConfig = z.infer<typeof runConfigSchema>;

export const imageConfigSchema = z.object({
  architecture: z.string().default(''),
  os: z.string().default(''),
  variant: z.string().optional(),
  created: nullable(z.string()),
  author: nullable(z.string()),
  config: nullable(runConfigSchema),
  rootfs: z.object({
    type: z.literal('layers'),
    diff_ids: z
      .array(digest)
      .nullable()
      .transform(list => list ?? []),
  }),
  history: nullable(
    z.array(
      z.object({
        created: nullable(z.string()),
        created_by: nullable(z.string()),
        empty_layer: nullable(z.boolean()),
        comment: nullable(z.string()),
      }),
    ),
  ),
});
export type ImageConfig = z.infer<typeof imageConfigSchema>;

/** Reads a JSON document. `what` names it in errors. @throws CriError imageFailed */
export function parseDocument<T>(bytes: Uint8Array, schema: z.ZodType<T>, what: string): T {
  if (bytes.length > maxDocumentBytes) {
    throw new CriError(
      'imageFailed',
      `${what} has ${bytes.length} bytes, more than the ${maxDocumentBytes} allowed`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw new CriError('imageFailed', `${what} is not JSON: ${messageOf(error)}`, { cause: error });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new CriError(
    'imageFailed',
    `${what} is malformed: ${issue?.path.join('.') || 'document'}: ${issue?.message}`,
  );
}

export function sha256(bytes: Uint8Array | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/**
 * The name of a layer together with all below it (image-spec, config.md, "Layer ChainID"), for each layer,
 * the lowest first.
 */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : sha256(`${below} ${diffId}`));
  }
  return chain;
}
