from acn_compress.cli import main

main()
