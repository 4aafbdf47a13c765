// What transformers.js makes of an ONNX directory: reads {directory, task, dtype, texts or images}
// from stdin, writes {inputs, outputs}, numbers by name. Nothing but local files is asked for.
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { env, pipeline, RawImage } from "@huggingface/transformers";

const { directory, task, dtype, texts, images } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(directory);

const pipe = await pipeline(task, basename(directory), { dtype });
const inputs = texts
  ? pipe.tokenizer(texts, { padding: true, truncation: true })
  : await pipe.processor(
      images.map((i) => new RawImage(new Uint8ClampedArray(i.data), i.width, i.height, i.channels)),
    );
const outputs = await pipe.model(inputs);

const plain = (tensors) =>
  Object.fromEntries(
    Object.entries(tensors)
      .filter(([, t]) => t?.dims)
      .map(([name, t]) => [name, { shape: t.dims, data: Array.from(t.data, Number) }]),
  );
process.stdout.write(JSON.stringify({ inputs: plain(inputs), outputs: plain(outputs) }));
