"""What sentence-transformers makes of a directory: reads {directory, backend, texts} from stdin,
writes the embeddings, a list each."""

import json
import sys

from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

given = json.load(sys.stdin)
model = SentenceTransformer(given["directory"], backend=given["backend"], device="cpu")
json.dump(model.encode(given["texts"]).tolist(), sys.stdout)
