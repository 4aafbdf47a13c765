from acn_compress.cli.app import main

main()
